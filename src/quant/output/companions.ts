/** @file Adapts configuration files, which name the model file beside them, to another model file. Knows JSON, no disk. */

import { isDeepStrictEqual } from 'node:util'
import {
  dataFilesPromised,
  type Entry,
  isObject,
  type Json,
  shownCount,
  withEntry,
  withoutEntries,
  withQuantization,
} from './hub-config.ts'
import { type HubName, stemOf } from './hub-names.ts'

/** The model file a configuration was written for, and the one it is to describe. */
export interface Renamed {
  /** The source, as seen from the folder with its configuration: "model.onnx", "onnx/model.onnx". */
  readonly before: string
  /** The output, as seen from the folder with its configuration: "model_q4.onnx", "onnx/model_q4.onnx". */
  readonly after: string
  /** File names of all that was written, the model's among them. */
  readonly files: readonly string[]
  /** In the layout of transformers.js: how to ask for the output. */
  readonly hub?: HubName | undefined
  /** Type of the output's cache, if it has one. */
  readonly cacheType?: string | undefined
  /** Section about the quantization for config.json. */
  readonly quantization?: Json | undefined
}

const fileName = (path: string): string => path.slice(path.lastIndexOf('/') + 1)

/** Data files as transformers.js names and counts them: "model_q4.onnx_data", "model_q4.onnx_data_1", ... */
const dataFilesOf = ({ after, files }: Renamed): number =>
  files.filter(file => file.startsWith(`${fileName(after)}_data`)).length

/** Entry of the output in config.json. */
function entryOf(renamed: Renamed): Entry {
  const { before, after, hub, cacheType } = renamed
  const sourceStem = stemOf(fileName(before))
  const dataFiles = dataFilesOf(renamed)
  return { file: fileName(after), stem: hub?.stem ?? sourceStem, sourceStem, dataFiles, dtype: hub?.dtype, cacheType }
}

/** genai_config.json with the new name wherever a file name was the old one. */
function renameGenai(json: Json, renamed: Renamed): Json {
  if (Array.isArray(json)) return json.map(item => renameGenai(item, renamed))
  if (!isObject(json)) return json
  const { before, after } = renamed
  const entries = Object.entries(json).map(([key, value]): [string, Json] => [
    key,
    key === 'filename' && (value === before || value === fileName(before)) ? after : renameGenai(value, renamed),
  ])
  return Object.fromEntries(entries)
}

/** Every file name in a genai_config.json. */
function genaiFiles(json: Json): string[] {
  if (Array.isArray(json)) return json.flatMap(genaiFiles)
  if (!isObject(json)) return []
  return Object.entries(json).flatMap(([key, value]) =>
    key === 'filename' && typeof value === 'string' ? [value] : genaiFiles(value),
  )
}

/** genai_config.json without file names. */
function withoutFiles(json: Json): Json {
  if (Array.isArray(json)) return json.map(withoutFiles)
  if (!isObject(json)) return json
  return Object.fromEntries(
    Object.entries(json).map(([key, value]): [string, Json] => [key, key === 'filename' ? null : withoutFiles(value)]),
  )
}

/** A kind of file that says something of the model file. */
interface Rule {
  readonly indent: number
  /** The contents for the output; the same object where nothing has to change. */
  readonly adapt: (json: Json, renamed: Renamed) => Json
  /** The contents without names of model files. */
  readonly rest: (json: Json) => Json
  /** Advice for the user where the file is wrong about the output and must not be changed. */
  readonly advice: (json: Json, renamed: Renamed) => string | undefined
}

/** File name -> what becomes of its contents. */
const RULES: Readonly<Record<string, Rule>> = {
  'genai_config.json': {
    indent: 4,
    adapt: (json, renamed) => (renamed.before === renamed.after ? json : renameGenai(json, renamed)),
    rest: withoutFiles,
    advice: (json, { after }) =>
      genaiFiles(json).length === 0 || genaiFiles(json).includes(after) ? undefined : `give it "filename": "${after}"`,
  },
  'config.json': {
    indent: 2,
    adapt: (json, renamed) => withQuantization(withEntry(json, entryOf(renamed)), renamed.quantization),
    rest: withoutEntries,
    advice: (json, renamed) => {
      const { file, stem, dataFiles } = entryOf(renamed)
      return dataFilesPromised(json, file, stem) === dataFiles
        ? undefined
        : `load it with use_external_data_format: ${shownCount(dataFiles)}`
    },
  },
}

const ruleOf = (name: string): Rule | undefined => (Object.hasOwn(RULES, name) ? RULES[name] : undefined)

/** True for names of files that may name the model file. */
export const isAdapted = (name: string): boolean => ruleOf(name) !== undefined

/**
 * The text that a file which lay beside the source should have beside the output; undefined where it can stay as it is.
 * @throws SyntaxError when a file that names the model is not JSON.
 */
export function adaptCompanion(name: string, text: string, renamed: Renamed): string | undefined {
  const rule = ruleOf(name)
  if (!rule) return undefined
  const json = JSON.parse(text) as Json
  const adapted = rule.adapt(json, renamed)
  return adapted === json ? undefined : `${JSON.stringify(adapted, undefined, rule.indent)}\n`
}

/** True for two files of this name that differ only in names of model files: one was adapted from the other. */
export function sayTheSame(name: string, a: string, b: string): boolean {
  const rule = ruleOf(name)
  try {
    return rule !== undefined && isDeepStrictEqual(rule.rest(JSON.parse(a) as Json), rule.rest(JSON.parse(b) as Json))
  } catch {
    return false // No JSON, or nested deeper than the stack.
  }
}

/** Advice about a file that must not be changed; undefined where it is right about the output. @throws SyntaxError */
export const adviceFor = (name: string, text: string, renamed: Renamed): string | undefined =>
  ruleOf(name)?.advice(JSON.parse(text) as Json, renamed)
