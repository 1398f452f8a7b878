/** @file The section of config.json in which transformers.js reads what it cannot see in a model file. Knows JSON, no disk. */

import type { Json } from '../../decoder/model-folder.ts'
import { DTYPE_SUFFIXES } from './hub-names.ts'

export type { Json }

type JsonObject = { [key: string]: Json }

export const isObject = (json: Json | undefined): json is JsonObject =>
  typeof json === 'object' && json !== null && !Array.isArray(json)

const SECTION = 'transformers.js_config'

/** Number of data files: one for all model files, or one for each file or stem. */
const DATA_FILES = 'use_external_data_format'

/** Type of the empty cache: one for all dtypes, or one for each. Version 3 needs it, version 4 reads the model's inputs. */
const CACHE_TYPE = 'kv_cache_dtype'

const sectionOf = (config: Json): JsonObject => {
  const section = isObject(config) ? config[SECTION] : undefined
  return isObject(section) ? section : {}
}

/** Number of data files in an entry for a file; the file itself goes before its stem. */
function promisedBy(entry: Json | undefined, file: string, stem: string): number {
  const own = isObject(entry) ? (entry[file] ?? entry[stem]) : entry
  return Number(own ?? 0)
}

/** Number of data files that a config.json gives a model file; 0 where it says nothing. */
export const dataFilesPromised = (config: Json, file: string, stem: string): number =>
  promisedBy(sectionOf(config)[DATA_FILES], file, stem)

/** A count as transformers.js writes it: true for one. */
export const shownCount = (count: number): boolean | number => (count < 2 ? count === 1 : count)

/** A model file that was written, as the section has it. */
export interface Entry {
  /** "model_q4.onnx" */
  readonly file: string
  /** "model" */
  readonly stem: string
  /** The stem of the file it was made from. */
  readonly sourceStem: string
  readonly dataFiles: number
  /** The dtype by which transformers.js asks for the file, where it lies in its layout. */
  readonly dtype: string | undefined
  /** Type of the cache that the file reads and writes; undefined where it has none. */
  readonly cacheType: string | undefined
}

function withDataFiles(section: JsonObject, { file, stem, sourceStem, dataFiles }: Entry): JsonObject {
  const entry = section[DATA_FILES]
  if (promisedBy(entry, file, stem) === dataFiles) return section
  // One number was meant for every file of the model.
  const others = isObject(entry) ? entry : entry ? { [sourceStem]: entry } : {}
  return { ...section, [DATA_FILES]: { ...others, [file]: shownCount(dataFiles) } }
}

/** Type of the cache in files of a dtype for which an entry says nothing. */
const USUAL_CACHE = 'float32'

function withCacheType(section: JsonObject, { dtype, cacheType }: Entry): JsonObject {
  const entry = section[CACHE_TYPE]
  if (dtype === undefined || cacheType === undefined) return section
  const said = (isObject(entry) ? entry[dtype] : entry) ?? USUAL_CACHE
  if (said === cacheType) return section
  // One type was meant for every file of the model.
  const dtypes = Object.keys(DTYPE_SUFFIXES)
  const others = isObject(entry) ? entry : entry ? Object.fromEntries(dtypes.map(name => [name, entry])) : {}
  return { ...section, [CACHE_TYPE]: { ...others, [dtype]: cacheType } }
}

/** config.json with an entry for a model file; the same object where it is right already. What it says of other files stays. */
export function withEntry(config: Json, entry: Entry): Json {
  if (!isObject(config)) return config
  const section = sectionOf(config)
  // A config.json without a section is read by others only: outside the layout it gets none.
  if (entry.dtype === undefined && !Object.hasOwn(config, SECTION)) return config
  const adapted = withCacheType(withDataFiles(section, entry), entry)
  return adapted === section ? config : { ...config, [SECTION]: adapted }
}

/** Section in which transformers and its relatives say how a model is quantized. */
const QUANTIZATION = 'quantization_config'

/** config.json that says how its model file is quantized; other keys stay where they are. */
export const withQuantization = (config: Json, quantization: Json | undefined): Json =>
  isObject(config) && quantization !== undefined ? { ...config, [QUANTIZATION]: quantization } : config

/** config.json without what is said of single model files. */
export function withoutEntries(config: Json): Json {
  if (!isObject(config)) return config
  const unquantized = Object.fromEntries(Object.entries(config).filter(([key]) => key !== QUANTIZATION))
  const { [SECTION]: section, ...rest } = unquantized
  if (!isObject(section)) return unquantized
  const others = Object.entries(section).filter(([key]) => key !== DATA_FILES && key !== CACHE_TYPE)
  return others.length === 0 ? rest : { ...rest, [SECTION]: Object.fromEntries(others) }
}
