/**
 * @file --config FILE.json: options of a command by the keys of the library's functions. Reads that file, and puts what was typed over it.
 * Knows no model.
 */

import { dirname, resolve } from 'node:path'
import { messageOf, QuantError, shown, usageError } from '../errors.ts'
import { readBounded } from '../files/bounded-file.ts'
import { keyName } from '../option-mark.ts'
import { nearestName } from '../quant/terms/nearest-name.ts'
import { RULES } from '../quant/terms/option-rules.ts'
import { EVALUATE_RULES } from '../quant/terms/read-options.ts'
import { type FlagRow, longFlag, takesPath } from './flag-row.ts'
import { QUANTIZE_FLAGS } from './quantize-flags.ts'
import type { Values } from './options.ts'
import { EVALUATE_FLAGS } from './read-flags.ts'

/** A file by hand has kilobytes; one with an override for each weight of a large model below one megabyte. */
const MAX_BYTES = 4 * 2 ** 20

const EXAMPLE = 'It should look like { "model": "model.onnx", "scheme": "w4a16" }.'

/** Options that a command takes from a file. */
interface ConfigTerms {
  /** Keys of the options, which are those of the library's function. */
  readonly keys: readonly string[]
  /** Those whose values are paths, or lists of paths. */
  readonly paths: readonly string[]
  readonly rows: readonly FlagRow[]
}

/** Paths that are arguments on the command line. */
const ARGUMENTS = ['model', 'others']

function termsOf(rules: object, rows: readonly FlagRow[], more: readonly string[] = []): ConfigTerms {
  const keys = [...Object.keys(rules), ...more]
  const paths = [...ARGUMENTS, ...rows.filter(takesPath).map(({ key }) => key)]
  return { keys, paths: paths.filter(key => keys.includes(key)), rows }
}

export const QUANTIZE_CONFIG: ConfigTerms = termsOf(RULES, QUANTIZE_FLAGS, ['evaluate'])

export const EVALUATE_CONFIG: ConfigTerms = termsOf(EVALUATE_RULES, EVALUATE_FLAGS)

/** Options of a file that do not hold beside one that is typed: they say the same in another way. */
const REPLACED: Readonly<Record<string, readonly string[]>> = {
  model: ['others'],
  scheme: ['bits', 'activationBits', 'maxSize', 'maxKl'],
  bits: ['scheme', 'maxSize', 'maxKl'],
  activationBits: ['scheme', 'maxSize', 'maxKl'],
  maxSize: ['scheme', 'bits', 'activationBits', 'maxKl'],
  maxKl: ['scheme', 'bits', 'activationBits', 'maxSize'],
  group: ['perChannel'],
  perChannel: ['group'],
  overridesFile: ['overrides'],
  params: ['saveParams'],
  saveParams: ['params'],
  device: ['devices'],
  devices: ['device'],
}

/** Keys of a file that a typed option replaces besides its own. "w4a16g64" says the group too. */
const replacedBy = ([key, value]: readonly [string, unknown]): readonly string[] => [
  ...(REPLACED[key] ?? []),
  ...(key === 'scheme' && /g\d+$/i.test(String(value)) ? ['group', 'perChannel'] : []),
]

/** The values with absolute paths. @param folder that relative ones are meant from. @param where for messages. @throws E_USAGE for a path that is no text. */
export function absolutePaths(values: Values, { paths }: ConfigTerms, folder: string, where?: string): Values {
  const absolute = (key: string, value: unknown): unknown => {
    if (typeof value === 'string') return resolve(folder, value)
    throw usageError(`${where}: "${key}" takes a path, not ${shown(value)}`, undefined, key)
  }
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => {
      if (!paths.includes(key) || value === undefined) return [key, value]
      return [key, Array.isArray(value) ? value.map(each => absolute(key, each)) : absolute(key, value)]
    }),
  )
}

/** Hint for a key that is no option. */
function hintFor(key: string, { keys, rows }: ConfigTerms): string | undefined {
  const typed = key.replace(/^--/, '')
  const row = rows.find(each => each.key === typed || longFlag(each) === `--${typed}`)
  if (row && !keys.includes(row.key)) return `It belongs on the command line: ${longFlag(row)}.`
  const near = row?.key ?? nearestName(typed, keys)
  return near === undefined ? 'docs/config.md lists the keys.' : `Did you mean "${near}"?`
}

function parse(path: string): object {
  let text: string
  try {
    text = Buffer.from(readBounded(path, MAX_BYTES)).toString('utf8')
  } catch (error) {
    throw new QuantError('E_FILE_NOT_FOUND', `cannot read the configuration in ${path}: ${messageOf(error)}`)
  }
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch (error) {
    throw usageError(`${path} is not JSON: ${messageOf(error)}`, EXAMPLE, 'config')
  }
  if (typeof content === 'object' && content !== null && !Array.isArray(content)) return content
  throw usageError(`${path} does not hold an object`, EXAMPLE, 'config')
}

/**
 * Options of a file, with absolute paths: relative ones are meant from the folder of the file.
 * @throws E_FILE_NOT_FOUND; E_USAGE for what is no such file, for keys that do not exist and paths that are none.
 */
export function readConfig(path: string, terms: ConfigTerms): Values {
  const values = Object.entries(parse(path))
  for (const [key] of values)
    if (!terms.keys.includes(key)) throw usageError(`${path}: there is no option "${key}"`, hintFor(key, terms), key)
  return absolutePaths(Object.fromEntries(values), terms, dirname(resolve(path)), path)
}

/**
 * A command from what was typed and the file that `--config` names, if it does: what was typed wins. Errors about values of the file name
 * file and key.
 * @throws E_FILE_NOT_FOUND, E_USAGE, and what `make` throws.
 */
export function withConfig<T>(typed: Values, terms: ConfigTerms, make: (values: Values) => T): T {
  const { config: path, ...rest } = typed
  if (typeof path !== 'string') return make(rest)
  const given = Object.entries(rest).flatMap(entry => [entry[0], ...replacedBy(entry)])
  const fromFile = Object.fromEntries(Object.entries(readConfig(path, terms)).filter(([key]) => !given.includes(key)))
  try {
    return make({ ...fromFile, ...rest })
  } catch (error) {
    if (!(error instanceof QuantError) || error.option === undefined || !Object.hasOwn(fromFile, error.option))
      throw error
    const { message, hint } = error.words(keyName)
    throw new QuantError(error.code, `${path}: ${message}`, hint, { cause: error, option: error.option })
  }
}
