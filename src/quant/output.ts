/** @file Where the result goes, and which files travel with it so that the folder loads where the original did. */

import { copyFileSync, existsSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { type Graph, type Model } from '../graph/ir.ts'
import { isFileRange } from '../graph/tensor.ts'

export interface OutputPlan {
  /** Absolute path of the .onnx file to write. */
  readonly path: string
  /** Absolute path of the model it is made from. */
  readonly source: string
}

/**
 * The path to write: `asked` ending in .onnx is the file, anything else a folder that gets the model's own file name;
 * without it `<name>-<scheme>.onnx` beside the model.
 * @throws E_OUTPUT when that is the model itself.
 */
export function planOutput(source: string, asked: string | undefined, scheme: string): OutputPlan {
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

/** Copies what lies beside the model into the output's folder, unless that is the same folder or has such a file. */
export function copyCompanions({ path, source }: OutputPlan): string[] {
  const [from, to] = [dirname(source), dirname(path)]
  if (resolve(from) === resolve(to)) return []
  try {
    const names = readdirSync(from, { withFileTypes: true })
      .filter(entry => entry.isFile() && COMPANION.test(entry.name) && !existsSync(join(to, entry.name)))
      .map(entry => entry.name)
    for (const name of names) copyFileSync(join(from, name), join(to, name))
    return names
  } catch (error) {
    throw new QuantError('E_OUTPUT', `cannot copy tokenizer and configuration to ${to}: ${messageOf(error)}`)
  }
}

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
