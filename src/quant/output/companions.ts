/** @file Adapts configuration files, which name the model file beside them, to another model file. Knows JSON, no disk. */

import { isDeepStrictEqual } from 'node:util'

/** The model file a configuration was written for, and the one it is to describe. */
export interface Renamed {
  /** File name of the source, "model.onnx". */
  readonly before: string
  /** File name of the output, "model_q4.onnx". */
  readonly after: string
  /** File names of all that was written, the model's among them. */
  readonly files: readonly string[]
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

const isObject = (json: Json | undefined): json is { [key: string]: Json } =>
  typeof json === 'object' && json !== null && !Array.isArray(json)

/** Section of config.json in which transformers.js reads the number of data files of a model file. */
const HUB_SECTION = 'transformers.js_config'

const HUB_ENTRY = 'use_external_data_format'

/** "model_fp16.onnx" -> "model": the name by which transformers.js knows a model of any dtype. */
const stemOf = (file: string): string => file.replace(/\.onnx$/, '').replace(/_fp16$/, '')

/** Data files as transformers.js names and counts them: "model_q4.onnx_data", "model_q4.onnx_data_1", ... */
const dataFilesOf = ({ after, files }: Renamed): number => files.filter(file => file.startsWith(`${after}_data`)).length

/** Number of data files that an entry gives `file`: one number for all, or one for each file or stem; the file's own goes first. */
function promised(entry: Json | undefined, file: string, stem: string): number {
  const own = isObject(entry) ? (entry[file] ?? entry[stem]) : entry
  return Number(own ?? 0)
}

/** genai_config.json with the new name wherever a file name was the old one. */
function renameGenai(json: Json, renamed: Renamed): Json {
  if (Array.isArray(json)) return json.map(item => renameGenai(item, renamed))
  if (!isObject(json)) return json
  const { before, after } = renamed
  const entries = Object.entries(json).map(([key, value]): [string, Json] => [
    key,
    key === 'filename' && value === before ? after : renameGenai(value, renamed),
  ])
  return Object.fromEntries(entries)
}

/** True for a config.json whose number of data files is right for the output. */
function promisesDataFiles(config: Json, renamed: Renamed): boolean {
  const section = isObject(config) ? config[HUB_SECTION] : undefined
  const entry = isObject(section) ? section[HUB_ENTRY] : undefined
  return promised(entry, renamed.after, stemOf(renamed.before)) === dataFilesOf(renamed)
}

/** config.json with an entry for the output; what it says of other files stays. */
function countDataFiles(config: Json, renamed: Renamed): Json {
  if (!isObject(config) || promisesDataFiles(config, renamed)) return config
  const section = isObject(config[HUB_SECTION]) ? config[HUB_SECTION] : {}
  const entry = section[HUB_ENTRY]
  // One number was meant for every file of the model.
  const others = isObject(entry) ? entry : entry ? { [stemOf(renamed.before)]: entry } : {}
  const count = dataFilesOf(renamed)
  const own = { [renamed.after]: shownCount(count) }
  return { ...config, [HUB_SECTION]: { ...section, [HUB_ENTRY]: { ...others, ...own } } }
}

const shownCount = (count: number): boolean | number => (count === 1 ? true : count === 0 ? false : count)

/** config.json without what is said of single files. */
function withoutDataFiles(config: Json): Json {
  if (!isObject(config) || !isObject(config[HUB_SECTION])) return config
  const { [HUB_SECTION]: section, ...rest } = config
  const others = Object.entries(section).filter(([key]) => key !== HUB_ENTRY)
  return others.length === 0 ? rest : { ...rest, [HUB_SECTION]: Object.fromEntries(others) }
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
    adapt: countDataFiles,
    rest: withoutDataFiles,
    advice: (json, renamed) =>
      promisesDataFiles(json, renamed)
        ? undefined
        : `load it with use_external_data_format: ${shownCount(dataFilesOf(renamed))}`,
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
