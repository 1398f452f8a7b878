/** @file Values of flags -> a command, checked. Pure: knows no argument parser, no file and no model. */

import type { QuantizeRequest } from '../engine/messages.ts'
import { usageError } from '../errors.ts'
import { POSITIVE } from '../quant/terms/check-options.ts'
import { resolveOptions } from '../quant/terms/resolve-options.ts'
import {
  checkEvaluateOptions,
  checkInspectOptions,
  type EvaluateOptions,
  type InspectOptions,
} from '../quant/terms/read-options.ts'
import { ALL } from './flag-values.ts'

/** Form of a command's output. */
interface Manner {
  /** One JSON document on stdout instead of text. */
  readonly json: boolean
  /** Nothing but errors. */
  readonly quiet: boolean
}

export interface QuantizeCommand extends Manner {
  readonly command: 'quantize'
  readonly options: QuantizeRequest
  /** File of overrides, which come before those of `options`. */
  readonly overridesFile: string | undefined
}

export interface InspectCommand extends Manner {
  readonly command: 'inspect'
  readonly options: InspectOptions
}

export interface EvaluateCommand extends Manner {
  readonly command: 'evaluate'
  readonly options: EvaluateOptions
  readonly maxPerplexity: number | undefined
}

export interface DoctorCommand extends Manner {
  readonly command: 'doctor'
  /** Fetch CUDA first. */
  readonly install: boolean
  /** Folder to fetch it into, if not the usual one. */
  readonly into: string | undefined
}

export type Invocation = QuantizeCommand | InspectCommand | EvaluateCommand | DoctorCommand

/** Fields that were typed, by key. */
type Values = Readonly<Record<string, unknown>>

const SCHEME_FLAG = /^--(w\d+a\d+(?:g\d+)?)$/i

/**
 * `--w4a16` -> `--scheme w4a16`: there are too many to declare. `--let` -> `--let=all`, and `--let affine` -> `--let=affine`: a file
 * that follows is not its value. Arguments behind a `--` stay.
 */
export function rewriteFlags(argv: readonly string[]): string[] {
  const end = argv.indexOf('--')
  return argv.flatMap((arg, i) => {
    if (end >= 0 && i > end) return [arg]
    const match = SCHEME_FLAG.exec(arg)
    if (match) return ['--scheme', match[1]!]
    if (arg === '--let') return [`--let=${argv[i + 1] === 'affine' ? 'affine' : ALL}`]
    return arg === 'affine' && argv[i - 1] === '--let' ? [] : [arg]
  })
}

/** @throws E_USAGE, E_SCHEME */
export function quantizeCommand(model: string, values: Values): QuantizeCommand {
  const {
    json = false,
    quiet = false,
    overridesFile,
    evaluate,
    ...rest
  } = values as Partial<Manner & Omit<QuantizeRequest, 'model'> & Pick<QuantizeCommand, 'overridesFile'>>
  const options = { model, ...rest }
  resolveOptions(options)
  return {
    command: 'quantize',
    options: evaluate === undefined ? options : { ...options, evaluate },
    overridesFile,
    json,
    quiet,
  }
}

/** @throws E_USAGE */
export function inspectCommand(model: string, values: Values): InspectCommand {
  const { json = false, ...rest } = values as Partial<Manner & Omit<InspectOptions, 'model'>>
  const options = { model, ...rest }
  checkInspectOptions(options)
  return { command: 'inspect', options, json, quiet: false }
}

/** @param file text given as an argument. @throws E_USAGE */
export function evaluateCommand(model: string, file: string | undefined, values: Values): EvaluateCommand {
  const {
    json = false,
    quiet = false,
    maxPerplexity,
    text = file,
    ...rest
  } = values as Partial<Manner & Omit<EvaluateOptions, 'model'> & Pick<EvaluateCommand, 'maxPerplexity'>>
  if (text === undefined) {
    throw usageError(
      'what shall the model be evaluated on?',
      'Give a file: --text FILE (.txt, .md, .jsonl, or token ids as .npy).',
    )
  }
  if (values['text'] !== undefined && file !== undefined)
    throw usageError(`two texts are given: ${file} and --text ${text}`, 'Give one of them.')
  if (maxPerplexity !== undefined && !POSITIVE.holds(maxPerplexity))
    throw usageError(`--max-perplexity ${POSITIVE.says}, not "${String(maxPerplexity)}"`)
  const options = { model, text, ...rest }
  checkEvaluateOptions(options)
  return { command: 'evaluate', options, maxPerplexity, json, quiet }
}

/** @throws E_USAGE */
export function doctorCommand(values: Values): DoctorCommand {
  const { json = false, install = false, into } = values as Partial<Manner & Pick<DoctorCommand, 'install' | 'into'>>
  if (into !== undefined && !install)
    throw usageError('--into is the folder for --install-cuda', 'Give --install-cuda too.')
  return { command: 'doctor', install, into, json, quiet: false }
}
