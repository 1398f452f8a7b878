/** @file What configuration files say of the model file beside them, and how to keep it true for another one. Knows JSON, no disk. */

/** The model file a configuration was written for, and the one it is to describe. */
export interface Renamed {
  /** File name of the source, "model.onnx". */
  readonly before: string
  /** File name of the output, "model_q4.onnx". */
  readonly after: string
  /** File names of all that was written, the model's among them. */
  readonly files: readonly string[]
}

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

const isObject = (json: Json | undefined): json is { [key: string]: Json } =>
  typeof json === 'object' && json !== null && !Array.isArray(json)

/** Where transformers.js reads how many data files belong to a model file. */
const HUB_SECTION = 'transformers.js_config'
const HUB_ENTRY = 'use_external_data_format'

/** "model_fp16.onnx" -> "model": the name by which transformers.js knows a model of any dtype. */
const stemOf = (file: string): string => file.replace(/\.onnx$/, '').replace(/_fp16$/, '')

/** Data files as transformers.js names and counts them: "model_q4.onnx_data", "model_q4.onnx_data_1", ... */
const dataFilesOf = ({ after, files }: Renamed): number => files.filter(file => file.startsWith(`${after}_data`)).length

/** How many data files an entry promises `file`: one number for all, or one for each file or stem, the file's own first. */
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

/** Whether what a config.json says of external data holds for the output. */
export function promisesDataFiles(config: Json, renamed: Renamed): boolean {
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
  const own = { [renamed.after]: count === 1 ? true : count === 0 ? false : count }
  return { ...config, [HUB_SECTION]: { ...section, [HUB_ENTRY]: { ...others, ...own } } }
}

/** File name -> what becomes of its contents. */
const RULES: Readonly<
  Record<string, { readonly indent: number; readonly adapt: (json: Json, renamed: Renamed) => Json }>
> = {
  'genai_config.json': { indent: 4, adapt: renameGenai },
  'config.json': { indent: 2, adapt: countDataFiles },
}

/** Whether a file of this name may say something of the model file. */
export const isAdapted = (name: string): boolean => Object.hasOwn(RULES, name)

/**
 * The text that a file which lay beside the source should have beside the output; undefined where it can stay as it is.
 * @throws SyntaxError when a file that names the model is not JSON.
 */
export function adaptCompanion(name: string, text: string, renamed: Renamed): string | undefined {
  const rule = Object.hasOwn(RULES, name) ? RULES[name]! : undefined
  if (!rule || (name === 'genai_config.json' && renamed.before === renamed.after)) return undefined
  const json = JSON.parse(text) as Json
  const adapted = rule.adapt(json, renamed)
  return adapted === json ? undefined : `${JSON.stringify(adapted, undefined, rule.indent)}\n`
}
