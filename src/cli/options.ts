/** @file Values of flags -> a command, checked. Pure: knows no argument parser, no file and no model. */

import type { QuantizeRequest } from '../engine/messages.ts'
import { usageError } from '../errors.ts'
import { checkGenerateOptions, type GenerateOptions } from '../quant/terms/generate-options.ts'
import { resolveOptions } from '../quant/terms/resolve-options.ts'
import {
  checkEvaluateOptions,
  checkInspectOptions,
  type EvaluateOptions,
  type InspectOptions,
} from '../quant/terms/read-options.ts'
import { ALL } from './flag-values.ts'
import { checkLimits, LIMIT_KEYS, type Limits } from './limits.ts'

/** Form of a command's output. */
interface Manner {
  /** One JSON document on stdout instead of text. */
  readonly json: boolean
  /** Nothing but errors. */
  readonly quiet: boolean
}

/** Form of what is told while a command works. */
interface Telling {
  /** Also a line for every phase. */
  readonly verbose: boolean
  /** File for all events. */
  readonly log: string | undefined
}

export interface QuantizeCommand extends Manner, Telling {
  readonly command: 'quantize'
  readonly options: QuantizeRequest
  /** File of overrides, which come before those of `options`. */
  readonly overridesFile: string | undefined
  /** File for a page about the run. */
  readonly report: string | undefined
}

export interface InspectCommand extends Manner {
  readonly command: 'inspect'
  readonly options: InspectOptions
}

export interface EvaluateCommand extends Manner {
  readonly command: 'evaluate'
  readonly options: EvaluateOptions
  readonly limits: Limits
  /** File for a page about the run. */
  readonly report: string | undefined
}

export interface GenerateCommand extends Manner {
  readonly command: 'generate'
  /** A prompt of "-" stands for the text on stdin. */
  readonly options: GenerateOptions
}

export interface DoctorCommand extends Manner {
  readonly command: 'doctor'
  /** Fetch CUDA first. */
  readonly install: boolean
  /** Folder to fetch it into, if not the usual one. */
  readonly into: string | undefined
}

/** A command to print as a configuration instead of running it. */
export interface ConfigCommand extends Manner {
  readonly command: 'config'
  readonly of: QuantizeCommand | EvaluateCommand
}

export type Invocation =
  QuantizeCommand | InspectCommand | EvaluateCommand | GenerateCommand | DoctorCommand | ConfigCommand

/** Fields that were typed or come from a configuration, by key. */
export type Values = Readonly<Record<string, unknown>>

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
    verbose = false,
    log,
    overridesFile,
    report,
    evaluate,
    ...rest
  } = values as Partial<
    Manner & Telling & Omit<QuantizeRequest, 'model'> & Pick<QuantizeCommand, 'overridesFile' | 'report'>
  >
  if (quiet && verbose) throw usageError('--quiet and --verbose exclude each other', 'Give one of them.')
  const options = { model, ...rest }
  resolveOptions(options)
  return {
    command: 'quantize',
    options: evaluate === undefined ? options : { ...options, evaluate },
    overridesFile,
    report,
    json,
    quiet,
    verbose,
    log,
  }
}

/** @throws E_USAGE */
export function inspectCommand(model: string, values: Values): InspectCommand {
  const { json = false, ...rest } = values as Partial<Manner & Omit<InspectOptions, 'model'>>
  const options = { model, ...rest }
  checkInspectOptions(options)
  return { command: 'inspect', options, json, quiet: false }
}

/** Endings of files that `loadTokens` reads. */
const TEXT_FILE = /\.(txt|md|jsonl|npy)$/i

/** Models and the text among arguments: behind a model, the last one may be the text. */
function modelsAndText(paths: readonly string[]): { readonly models: readonly string[]; readonly file?: string } {
  const last = paths.at(-1)!
  return paths.length > 1 && TEXT_FILE.test(last) ? { models: paths.slice(0, -1), file: last } : { models: paths }
}

/** Fields of `evaluate` that were typed, with those that paths say. @param paths models, and perhaps the text behind them. @throws E_USAGE */
export function evaluateValues(paths: readonly string[], values: Values): Values {
  if (paths.length === 0) return values
  const { models, file } = modelsAndText(paths)
  const { text = file } = values
  if (values['text'] !== undefined && file !== undefined)
    throw usageError(`two texts are given: ${file} and --text ${String(text)}`, 'Give one of them.')
  const [model, ...others] = models
  return { ...values, model, ...(others.length > 0 && { others }), ...(text !== undefined && { text }) }
}

/** @param model first of the models; further ones are in the values. @throws E_USAGE */
export function evaluateCommand(model: string, values: Values): EvaluateCommand {
  const {
    json = false,
    quiet = false,
    text,
    report,
    ...typed
  } = values as Partial<Manner & Omit<EvaluateOptions, 'model'> & Limits & Pick<EvaluateCommand, 'report'>>
  if (text === undefined) {
    throw usageError(
      'what shall the model be evaluated on?',
      'Give a file: --text FILE (.txt, .md, .jsonl, or token ids as .npy).',
    )
  }
  const isLimit = ([key]: readonly [string, unknown]): boolean => LIMIT_KEYS.includes(key)
  const limits = Object.fromEntries(Object.entries(typed).filter(isLimit)) as Limits
  const rest = Object.fromEntries(Object.entries(typed).filter(entry => !isLimit(entry)))
  const options: EvaluateOptions = { model, text, ...rest }
  checkLimits(limits, options.against !== undefined)
  checkEvaluateOptions(options)
  return { command: 'evaluate', options, limits, report, json, quiet }
}

/** @throws E_USAGE */
export function generateCommand(model: string, prompt: string, values: Values): GenerateCommand {
  const { json = false, ...rest } = values as Partial<Manner & Omit<GenerateOptions, 'model' | 'prompt'>>
  const options = { model, prompt, ...rest }
  checkGenerateOptions(options)
  return { command: 'generate', options, json, quiet: false }
}

/** @throws E_USAGE */
export function doctorCommand(values: Values): DoctorCommand {
  const { json = false, install = false, into } = values as Partial<Manner & Pick<DoctorCommand, 'install' | 'into'>>
  if (into !== undefined && !install)
    throw usageError('--into is the folder for --install-cuda', 'Give --install-cuda too.')
  return { command: 'doctor', install, into, json, quiet: false }
}
