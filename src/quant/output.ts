/** @file Where the result goes, and which files travel with it so that the folder loads where the original did. */

import { copyFileSync, existsSync, readdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { type Graph, type Model } from '../graph/ir.ts'
import { isFileRange } from '../graph/tensor.ts'
import { adaptCompanion, isAdapted, type Json, promisesDataFiles, type Renamed } from './companions.ts'

export interface OutputPlan {
  /** Absolute path of the .onnx file to write. */
  readonly path: string
  /** Absolute path of the model it is made from. */
  readonly source: string
  /** What its data file is to be called, if it gets one, where readers expect a certain name. */
  readonly dataFileName?: string
}

/** Where transformers.js keeps models, below the folder with tokenizer and configuration. */
const HUB_FOLDER = 'onnx'

const isHubFolder = (folder: string): boolean => basename(resolve(folder)) === HUB_FOLDER

/**
 * The file name by which transformers.js finds a model of a dtype: "model_q4" for dtype "q4", "model_q4f16" where the rest is
 * float16; for what it has no dtype for, the scheme itself (to be loaded with `model_file_name`).
 */
function hubName(source: string, scheme: string): string {
  const [, stem, half] = /^(.*?)(_fp16)?$/.exec(basename(source, extname(source)))!
  const bits = /^w([1248])a16/.exec(scheme)?.[1]
  const dtype = bits === undefined || bits === '8' ? `${half ? 'fp16_' : ''}${scheme}` : `q${bits}${half ? 'f16' : ''}`
  return `${stem}_${dtype}.onnx`
}

/** For a model of the transformers.js layout: beside it, or in `asked`/onnx. */
function planHubOutput(source: string, asked: string | undefined, scheme: string): OutputPlan {
  const name = hubName(source, scheme)
  const folder =
    asked === undefined ? dirname(source) : isHubFolder(asked) ? resolve(asked) : resolve(asked, HUB_FOLDER)
  const path = join(folder, name)
  if (existsSync(path)) {
    throw new QuantError(
      'E_OUTPUT',
      `${path} is there already`,
      'It may be the one that came with the model: move it away, or choose another folder or file name with -o.',
    )
  }
  return { path, source, dataFileName: `${name}_data` }
}

/**
 * The path to write: `asked` ending in .onnx is the file, anything else a folder that gets the model's own file name;
 * without it `<name>-<scheme>.onnx` beside the model. Models in a folder called onnx (the layout of transformers.js) get the name
 * it looks for: onnx/model.onnx -> onnx/model_q4.onnx.
 * @throws E_OUTPUT when that is the model itself, or when it would replace another file of the transformers.js layout.
 */
export function planOutput(source: string, asked: string | undefined, scheme: string): OutputPlan {
  if (isHubFolder(dirname(source)) && !asked?.endsWith('.onnx')) return planHubOutput(source, asked, scheme)
  const name = basename(source, extname(source))
  const path =
    asked === undefined
      ? join(dirname(source), `${name}-${scheme}.onnx`)
      : asked.endsWith('.onnx')
        ? resolve(asked)
        : resolve(asked, basename(source))
  if (path === resolve(source)) {
    throw new QuantError('E_OUTPUT', `the output would overwrite the model: ${path}`, 'Choose another name with -o.')
  }
  return { path, source }
}

/** Tokenizer, configuration and templates: small files that describe the model and name no weights. */
const COMPANION = /\.(json|txt|model|jinja|tiktoken)$/

/** The folder with the tokenizer of a model file. */
const homeOf = (file: string): string => (isHubFolder(dirname(file)) ? dirname(dirname(file)) : dirname(file))

/**
 * Copies what lies beside the model into the output's folder, unless that is the same folder or has such a file. What it says of the
 * model file is made true of the output.
 * @param files paths of what was written: the output, then its data file if it has one.
 * @returns names of the files copied, and what else the user should know.
 */
export function copyCompanions(
  { path, source }: OutputPlan,
  files: readonly string[] = [path],
): { readonly copied: readonly string[]; readonly notes: readonly string[] } {
  const [from, to] = [homeOf(resolve(source)), homeOf(resolve(path))]
  const renamed = { before: basename(source), after: basename(path), files: files.map(file => basename(file)) }
  try {
    const copied =
      resolve(from) === resolve(to)
        ? []
        : readdirSync(from).filter(
            name => COMPANION.test(name) && isPlainFile(join(from, name)) && !existsSync(join(to, name)),
          )
    const notes: string[] = []
    for (const name of copied) {
      const [source, target] = [join(from, name), join(to, name)]
      try {
        const adapted = isAdapted(name) ? adaptCompanion(name, readFileSync(source, 'utf8'), renamed) : undefined
        if (adapted === undefined) copyFileSync(source, target)
        else writeFileSync(target, adapted)
      } catch (error) {
        // What is no JSON, or nested deeper than the stack: hours of work do not end for that.
        if (!(error instanceof SyntaxError || error instanceof RangeError)) throw error
        copyFileSync(source, target)
        notes.push(`${name} is not JSON that could be read: copied as it is`)
      }
    }
    return { copied, notes: [...notes, ...hubNotes(path, join(to, 'config.json'), renamed)] }
  } catch (error) {
    throw new QuantError('E_OUTPUT', `cannot copy tokenizer and configuration to ${to}: ${messageOf(error)}`)
  }
}

/** A configuration that was there before the output is the user's: what it says wrong of the output is said, not changed. */
function hubNotes(path: string, config: string, renamed: Renamed): string[] {
  if (!isHubFolder(dirname(path)) || !existsSync(config)) return []
  try {
    if (promisesDataFiles(JSON.parse(readFileSync(config, 'utf8')) as Json, renamed)) return []
  } catch {
    return [] // it was no JSON before either
  }
  const count = renamed.files.length - 1
  return [
    `${config} was there before and is wrong about ${renamed.after}: load it with use_external_data_format: ${count > 0}`,
  ]
}

/** Links count as what they lead to: caches of downloads are full of them. */
const isPlainFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false

/** The model file and the data files its weights lie in. */
export function modelFiles(model: Model): string[] {
  const files = new Set<string>([model.path!])
  const visit = (graph: Graph) => {
    for (const { tensor } of graph.initializers) if (tensor && isFileRange(tensor.data)) files.add(tensor.data.file)
    for (const node of graph.nodes) {
      for (const attribute of node.attributes.values())
        if (attribute.type === 'tensor' && isFileRange(attribute.value.data)) files.add(attribute.value.data.file)
      node.subgraphs().forEach(visit)
    }
  }
  visit(model.graph)
  return [...files]
}

/** Bytes of the model file and the data files its weights lie in; a link and what it leads to count once. */
export function modelSizeBytes(model: Model): number {
  const files = new Set(modelFiles(model).map(file => realpathSync(file)))
  return [...files].reduce((sum, file) => sum + statSync(file).size, 0)
}
