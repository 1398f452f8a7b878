/** @file What was typed -> options of a command, checked. Pure: knows no argument parser, no file and no model. */

import { OPTIMIZER_NAMES } from '../autodiff/optimizers.ts'
import type { EvaluateOptions } from '../quant/evaluate.ts'
import type { InspectOptions } from '../quant/inspect.ts'
import type { QuantizeOptions } from '../quant/terms/options.ts'
import { type Effort, PRESETS } from '../quant/terms/presets.ts'
import {
  EMBEDDING_BITS,
  type EmbeddingBits,
  parseScheme,
  parseWeightOverride,
  type PatternOverride,
  type QuantScheme,
} from '../quant/terms/scheme.ts'
import { duration, oneOf, positiveNumber, share, usageError, wholeNumber } from './flag-values.ts'

/** What every command may be told about what it says. */
interface Manner {
  /** One JSON document on stdout instead of text. */
  readonly json: boolean
  /** Nothing but errors. */
  readonly quiet: boolean
}

export interface QuantizeCommand extends Manner {
  readonly command: 'quantize'
  readonly options: Omit<QuantizeOptions, 'onEvent' | 'signal'>
  /** File of overrides, which come before those of `options`. */
  readonly overridesFile: string | undefined
  /** Text or token ids to measure both models on. */
  readonly evaluate: string | undefined
}

export interface InspectCommand extends Manner {
  readonly command: 'inspect'
  readonly options: InspectOptions
}

export interface EvaluateCommand extends Manner {
  readonly command: 'evaluate'
  readonly options: Omit<EvaluateOptions, 'onProgress' | 'signal'>
  readonly maxPerplexity: number | undefined
}

export type Invocation = QuantizeCommand | InspectCommand | EvaluateCommand

const SCHEME_FLAG = /^--(w\d+a\d+(?:g\d+)?)$/i

/** `--w4a16` -> `--scheme w4a16`: there are too many to declare. What follows a `--` is left alone. */
export function rewriteSchemeFlags(argv: readonly string[]): string[] {
  const end = argv.indexOf('--')
  return argv.flatMap((arg, i) => {
    const match = end >= 0 && i > end ? null : SCHEME_FLAG.exec(arg)
    return match ? ['--scheme', match[1]!] : [arg]
  })
}

/** Flags of `quantize` as they were typed. */
export interface QuantizeFlags {
  readonly output?: string
  readonly scheme?: readonly string[]
  readonly wbits?: string
  readonly abits?: string
  readonly group?: string
  readonly perChannel?: boolean
  readonly symmetric?: boolean
  readonly symmetricActivations?: boolean
  readonly ignore?: readonly string[]
  readonly override?: readonly string[]
  readonly overrides?: string
  readonly lmHead?: string
  readonly embedding?: string
  readonly format?: string
  readonly calib?: string
  readonly samples?: string
  readonly seqLen?: string
  readonly epochs?: string
  readonly lr?: string
  readonly letLr?: string
  readonly schedule?: string
  readonly optimizer?: string
  readonly alpha?: string
  readonly augLoss?: boolean
  readonly saveParams?: string
  readonly params?: string
  readonly seed?: string
  readonly preset?: string
  readonly lwc?: boolean
  /** True or false only where --let or --no-let was given. */
  readonly let?: boolean
  readonly keepCache?: boolean
  readonly accuracyLevel?: string
  readonly threads?: string
  readonly evaluate?: string
  readonly timeBudget?: string
  readonly workDir?: string
  readonly fresh?: boolean
  readonly json?: boolean
  readonly quiet?: boolean
}

function schemeOf(flags: QuantizeFlags): QuantScheme {
  const named = new Set(flags.scheme?.map(name => name.toLowerCase()))
  if (named.size > 1) {
    throw usageError(`${[...named].map(name => `--${name}`).join(' and ')} exclude each other`, 'Give one of them.')
  }
  const [name] = named
  const bits = wholeNumber('--wbits', flags.wbits, 1)
  const activationBits = wholeNumber('--abits', flags.abits, 1)
  if (name !== undefined && (bits !== undefined || activationBits !== undefined)) {
    throw usageError(`--${name} already says how many bits`, 'Leave out --wbits and --abits.')
  }
  if (name === undefined && bits === undefined) {
    throw usageError(
      'how many bits shall the weights have?',
      'Give a scheme such as --w4a16, --w3a16, --w2a16 or --w8a16 (--w4a16g64 for groups of 64), or --wbits N.',
    )
  }
  return parseScheme(name ?? `w${bits}a${activationBits ?? 16}`, {
    group: wholeNumber('--group', flags.group, 1),
    perChannel: flags.perChannel,
    symmetric: flags.symmetric,
    symmetricActivations: flags.symmetricActivations,
  })
}

function effortOf(flags: QuantizeFlags): Effort & { readonly capSeqLen: boolean } {
  const name = flags.preset ?? 'default'
  const preset = Object.hasOwn(PRESETS, name) ? PRESETS[name] : undefined
  if (preset === undefined) {
    throw usageError(`there is no preset "${name}"`, `There are ${Object.keys(PRESETS).join(', ')}.`)
  }
  const seqLen = wholeNumber('--seq-len', flags.seqLen, 2)
  return {
    samples: wholeNumber('--samples', flags.samples, 1) ?? preset.samples,
    seqLen: seqLen ?? preset.seqLen,
    epochs: wholeNumber('--epochs', flags.epochs, 0) ?? preset.epochs,
    learningRate: positiveNumber('--lr', flags.lr) ?? preset.learningRate,
    schedule: oneOf('--schedule', flags.schedule, ['constant', 'cosine']) ?? preset.schedule,
    capSeqLen: seqLen === undefined,
    // Who says how much gets that much.
    maxWork: flags.samples === undefined && flags.epochs === undefined ? preset.maxWork : undefined,
  }
}

function accuracyLevelOf(text: string | undefined): 0 | 4 {
  if (text === undefined || text === '0') return 0
  if (text === '4') return 4
  throw usageError(
    `--accuracy-level is 0 or 4, not "${text}"`,
    '0 computes in float32; 4 lets onnxruntime round activations to 8 bits on the fly, which is faster and less exact.',
  )
}

/** "down_proj:w8g64" */
function overrideOf(text: string): PatternOverride {
  const colon = text.lastIndexOf(':')
  if (colon > 0) return { pattern: text.slice(0, colon), ...parseWeightOverride(text.slice(colon + 1)) }
  throw usageError(
    `--override takes PATTERN:wN, not "${text}"`,
    'For example --override down_proj:w8, or *_proj:w8g64sym.',
  )
}

function outerBits(flag: string, text: string | undefined): EmbeddingBits | undefined {
  const bits = EMBEDDING_BITS.find(known => String(known) === text)
  if (text === undefined || bits !== undefined) return bits
  throw usageError(`${flag} takes 2, 4 or 8 bits, not "${text}"`)
}

const mannerOf = (flags: { readonly json?: boolean; readonly quiet?: boolean }): Manner => ({
  json: flags.json ?? false,
  quiet: flags.quiet ?? false,
})

/** @throws E_USAGE, E_SCHEME */
export function quantizeCommand(model: string, flags: QuantizeFlags): QuantizeCommand {
  if (flags.params !== undefined && flags.saveParams !== undefined) {
    throw usageError(
      '--params and --save-params exclude each other',
      'With --params nothing is learned that could be saved.',
    )
  }
  return {
    command: 'quantize',
    options: {
      model,
      output: flags.output,
      scheme: schemeOf(flags),
      ignore: flags.ignore,
      overrides: flags.override?.map(overrideOf),
      lmHead: outerBits('--lm-head', flags.lmHead),
      embedding: outerBits('--embedding', flags.embedding),
      format: oneOf('--format', flags.format, ['integer', 'portable']),
      lwc: flags.lwc ?? true,
      let: flags.let,
      keepCache: flags.keepCache,
      letLearningRate: positiveNumber('--let-lr', flags.letLr),
      optimizer: oneOf('--optimizer', flags.optimizer, OPTIMIZER_NAMES),
      alpha: share('--alpha', flags.alpha),
      augLoss: flags.augLoss ?? false,
      saveParams: flags.saveParams,
      params: flags.params,
      calib: flags.calib,
      ...effortOf(flags),
      seed: wholeNumber('--seed', flags.seed, 0) ?? 0,
      accuracyLevel: accuracyLevelOf(flags.accuracyLevel),
      session: { threads: wholeNumber('--threads', flags.threads, 1) },
      timeBudgetMs: duration('--time-budget', flags.timeBudget),
      workDir: flags.workDir,
      fresh: flags.fresh ?? false,
    },
    overridesFile: flags.overrides,
    evaluate: flags.evaluate,
    ...mannerOf(flags),
  }
}

/** @throws E_USAGE */
export function inspectCommand(
  model: string,
  flags: { readonly seqLen?: string; readonly json?: boolean },
): InspectCommand {
  const seqLen = wholeNumber('--seq-len', flags.seqLen, 2)
  return { command: 'inspect', options: { model, seqLen }, ...mannerOf(flags) }
}

/** Flags of `evaluate` as they were typed. */
export interface EvaluateFlags {
  readonly text?: string
  readonly seqLen?: string
  readonly windows?: string
  readonly against?: string
  readonly maxPerplexity?: string
  readonly threads?: string
  readonly json?: boolean
  readonly quiet?: boolean
}

/** @throws E_USAGE */
export function evaluateCommand(model: string, file: string | undefined, flags: EvaluateFlags): EvaluateCommand {
  const text = flags.text ?? file
  if (text === undefined) {
    throw usageError(
      'what shall the model be evaluated on?',
      'Give a file: --text FILE (.txt, .md, .jsonl, or token ids as .npy).',
    )
  }
  if (flags.text !== undefined && file !== undefined) {
    throw usageError(`two texts are given: ${file} and --text ${flags.text}`, 'Give one of them.')
  }
  return {
    command: 'evaluate',
    options: {
      model,
      text,
      against: flags.against,
      seqLen: wholeNumber('--seq-len', flags.seqLen, 2),
      windows: wholeNumber('--windows', flags.windows, 1),
      session: { threads: wholeNumber('--threads', flags.threads, 1) },
    },
    maxPerplexity: positiveNumber('--max-perplexity', flags.maxPerplexity),
    ...mannerOf(flags),
  }
}
