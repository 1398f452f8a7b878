/** @file Options of a run: as they are given, and resolved. Everything in quant reads resolved options. Knows no model. */

import { OPTIMIZER_NAMES, type OptimizerName } from '../../autodiff/optimizers.ts'
import { usageError } from '../../errors.ts'
import type { Device, SessionOptions } from '../../kernels/session.ts'
import { option } from '../../option-mark.ts'
import {
  bitsOf,
  checkOptions,
  DEVICE,
  FLAG,
  listOf,
  oneOf,
  POSITIVE,
  type Rules,
  SHARE,
  TEXT,
  wholeNumber,
} from './check-options.ts'
import { type PresetName, PRESETS, type Schedule, SCHEDULES } from './presets.ts'
import type { OnEvent } from './report.ts'
import {
  checkScheme,
  checkWeights,
  EMBEDDING_BITS,
  type EmbeddingOptions,
  parseScheme,
  type PatternOverride,
  type QuantScheme,
  type SchemeOverrides,
  type WeightRules,
} from './scheme.ts'

export type { Schedule } from './presets.ts'

/** Options of `quantize` as they are given. An option that is absent or undefined has its default. */
export interface QuantizeOptions extends WeightRules, EmbeddingOptions, SchemeOverrides {
  /** An .onnx file, or a folder with one. */
  readonly model: string
  /** A folder, or a path ending in .onnx; by default `<name>-<scheme>.onnx` beside the model. */
  readonly output?: string | undefined
  /** Bits of weights and activations: "w4a16", "w3a16g64", "w8a8". Either this or `bits` is needed. */
  readonly scheme?: string | QuantScheme | undefined
  /** Bits of the weights, 2 to 8, instead of a scheme. */
  readonly bits?: number | undefined
  /** Bits of the activations, with `bits` (default: 16, not quantized). */
  readonly activationBits?: number | undefined
  /** Form of linears with quantized activations: "integer" (default; fast on CPUs) or "portable". */
  readonly format?: ExportOptions['format'] | undefined
  /** 0 computes in float32 (default), 4 with activations of 8 bits: faster, less exact. */
  readonly accuracyLevel?: 0 | 4 | undefined
  /** Amount and speed of learning (default: "default"); the options below win over it. */
  readonly preset?: PresetName | undefined
  /** File with text or token ids; without it the model writes its own text. */
  readonly calib?: string | undefined
  /** Calibration samples. */
  readonly samples?: number | undefined
  /** Tokens of a sample. A preset's are cut to the positions of the model; those given here are refused where they are too many. */
  readonly seqLen?: number | undefined
  /** Passes over all samples. */
  readonly epochs?: number | undefined
  /** Learning rate of the clipping, at the first step. */
  readonly learningRate?: number | undefined
  readonly schedule?: Schedule | undefined
  /** Default: "adamw". */
  readonly optimizer?: OptimizerName | undefined
  /** Learn the clipping of weights (default: true). With nothing to learn, weights are rounded to nearest. */
  readonly lwc?: boolean | undefined
  /** Learn equivalent transformations (default: where activations are quantized). */
  readonly let?: boolean | undefined
  /** Make no transformation that scales the KV cache, so that other files of the model can read it (default: false). */
  readonly keepCache?: boolean | undefined
  /** Learning rate of the transformations; by default half of `learningRate` (arXiv 2308.13137 section 4.1: 5e-3 and 1e-2). */
  readonly letLearningRate?: number | undefined
  /** Share of the difficulty that starts in the weights, 0 to 1 (default: 0.5). */
  readonly alpha?: number | undefined
  /** Aim at the middle between the float block's outputs for float and for quantized inputs (default: false). */
  readonly augLoss?: boolean | undefined
  /** File (.safetensors) for the learned parameters, besides the model. */
  readonly saveParams?: string | undefined
  /** File of learned parameters to use instead of learning. */
  readonly params?: string | undefined
  /** Choice of samples, and of the model's own text (default: 0). */
  readonly seed?: number | undefined
  /** Threads (default: as many as cores). */
  readonly threads?: number | undefined
  /** Device for the computation (default: "cpu"; nothing was run on the others). */
  readonly device?: Device | undefined
  /** Learn from fewer samples, so that all blocks end within so many milliseconds. */
  readonly timeBudgetMs?: number | undefined
  /** Folder in which the run makes its own for finished blocks (default: a hidden one beside the output). Gone after success. */
  readonly workDir?: string | undefined
  /** Start over, instead of going on after an earlier run (default: false). */
  readonly fresh?: boolean | undefined
}

/** A transformation, as far as experiments choose among them. */
export interface NamedMapping {
  readonly name: string
  readonly kind: string
  /** Number of scales. */
  readonly size: number
}

/** Connections of a run to its caller. */
export interface Running {
  readonly onEvent?: OnEvent | undefined
  /** Ends the run between two programs. */
  readonly signal?: AbortSignal | undefined
}

/** Connections that only tests and experiments use. */
export interface Hooks extends Running {
  /** Chooses among the transformations that were found; by default all of them. */
  readonly selectMappings?: (<M extends NamedMapping>(mappings: readonly M[]) => readonly M[]) | undefined
  /** Milliseconds between two checkpoints of a block that is being learned. */
  readonly checkpointMs?: number | undefined
}

/** Everything that decides what is learned in a block. */
export interface LearningOptions extends WeightRules {
  readonly scheme: QuantScheme
  readonly lwc: boolean
  readonly let: boolean
  readonly keepCache: boolean
  readonly epochs: number
  readonly learningRate: number
  readonly letLearningRate: number
  readonly schedule: Schedule
  readonly optimizer: OptimizerName
  readonly alpha: number
  readonly augLoss: boolean
  readonly session: SessionOptions
}

/** Options of a block's life, with the hooks of the run. */
export interface Method extends LearningOptions, Hooks {}

export interface CalibrationOptions {
  readonly calib?: string | undefined
  readonly samples: number
  readonly seqLen: number
  /** True to shorten sequences to the model's positions, with a note, instead of refusing them. */
  readonly capSeqLen: boolean
  readonly seed: number
}

export interface EffortLimits {
  /** Limit of floating-point operations for all blocks: above it less is learned, the same on every machine. */
  readonly maxWork?: number | undefined
  /** Limit of milliseconds for all blocks: above it less is learned, as measured when the run begins. */
  readonly timeBudgetMs?: number | undefined
}

export interface ExportOptions {
  /**
   * MatMulNBits' accuracy_level where activations stay float: 0 computes in float32, 4 quantizes activations to int8 on the fly
   * (faster, less exact).
   */
  readonly accuracyLevel: 0 | 4
  /**
   * Product of weights in planes and quantized activations. 'integer': uint8 times int8, which onnxruntime has for CPUs.
   * 'portable': the same numbers in float, by operators of ai.onnx only.
   */
  readonly format: 'integer' | 'portable'
}

/** Options of a run with every default filled in. */
export interface ResolvedOptions
  extends LearningOptions, CalibrationOptions, EffortLimits, ExportOptions, EmbeddingOptions {
  readonly model: string
  readonly output: string | undefined
  readonly saveParams: string | undefined
  readonly params: string | undefined
  readonly workDir: string | undefined
  readonly fresh: boolean
}

/** A run: its options, and its connections to the caller. */
export interface Run extends ResolvedOptions, Hooks {}

const isText = (value: unknown): boolean => typeof value === 'string'

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

const isOverride = (value: unknown): boolean => isObject(value) && isText((value as PatternOverride).pattern)

const ACCURACY_HINT =
  '0 computes in float32; 4 lets onnxruntime round activations to 8 bits on the fly, which is faster and less exact.'

const RULES: Rules<QuantizeOptions> = {
  model: TEXT,
  output: TEXT,
  scheme: { holds: value => isText(value) || isObject(value), says: 'takes a text such as w4a16' },
  bits: wholeNumber(1),
  activationBits: wholeNumber(1),
  group: wholeNumber(1),
  perChannel: FLAG,
  symmetric: FLAG,
  symmetricActivations: FLAG,
  format: oneOf(['integer', 'portable']),
  ignore: listOf(isText, 'patterns'),
  overrides: listOf(isOverride, 'objects { pattern, bits, group?, symmetric? }'),
  lmHead: bitsOf(EMBEDDING_BITS),
  embedding: bitsOf(EMBEDDING_BITS),
  accuracyLevel: oneOf([0, 4], ACCURACY_HINT),
  preset: TEXT,
  calib: TEXT,
  samples: wholeNumber(1),
  seqLen: wholeNumber(2),
  epochs: wholeNumber(0),
  learningRate: POSITIVE,
  schedule: oneOf(SCHEDULES),
  optimizer: oneOf(OPTIMIZER_NAMES),
  lwc: FLAG,
  let: FLAG,
  keepCache: FLAG,
  letLearningRate: POSITIVE,
  alpha: SHARE,
  augLoss: FLAG,
  saveParams: TEXT,
  params: TEXT,
  seed: wholeNumber(0),
  threads: wholeNumber(1),
  device: DEVICE,
  timeBudgetMs: POSITIVE,
  workDir: TEXT,
  fresh: FLAG,
}

/** @throws E_USAGE, E_SCHEME */
function resolveScheme(given: QuantizeOptions): QuantScheme {
  const { scheme, bits, activationBits, group, perChannel, symmetric, symmetricActivations } = given
  if (typeof scheme === 'object') {
    const more = ['bits', 'activationBits', 'group', 'perChannel', 'symmetric', 'symmetricActivations'] as const
    const double = more.find(key => given[key] !== undefined)
    if (double) throw usageError(`${option('scheme')} as an object says everything: leave out ${option(double)}`)
    return checkScheme(scheme)
  }
  if (scheme !== undefined && (bits !== undefined || activationBits !== undefined)) {
    throw usageError(
      `${option('scheme', scheme)} already says how many bits`,
      `Leave out ${option('bits')} and ${option('activationBits')}.`,
      'bits',
    )
  }
  if (scheme === undefined && bits === undefined) {
    const examples = ['w4a16', 'w3a16', 'w2a16'].map(name => option('scheme', name)).join(', ')
    throw usageError(
      'how many bits shall the weights have?',
      `Give a scheme such as ${examples} or ${option('scheme', 'w8a16')} (${option('scheme', 'w4a16g64')} for groups of 64), or ${option('bits', 'N')}.`,
      'scheme',
    )
  }
  return parseScheme(scheme ?? `w${bits}a${activationBits ?? 16}`, {
    group,
    perChannel,
    symmetric,
    symmetricActivations,
  })
}

/**
 * Checks the options and fills in presets and defaults. Reads no files.
 * @throws E_USAGE, E_SCHEME with the key of the option.
 */
export function resolveOptions(given: QuantizeOptions): ResolvedOptions {
  checkOptions(given, RULES, ['model'])
  const { params, saveParams, threads, device = 'cpu', overrides = [] } = given
  if (params !== undefined && saveParams !== undefined) {
    throw usageError(
      `${option('params')} and ${option('saveParams')} exclude each other`,
      `With ${option('params')} nothing is learned that could be saved.`,
      'saveParams',
    )
  }
  const scheme = resolveScheme(given)
  for (const { bits, group } of overrides) checkWeights(bits, group, 'overrides')
  const { preset: name = 'default' } = given
  if (!Object.hasOwn(PRESETS, name))
    throw usageError(`there is no preset "${name}"`, `There are ${Object.keys(PRESETS).join(', ')}.`, 'preset')
  const preset = PRESETS[name]
  const { learningRate = preset.learningRate } = given
  return {
    model: given.model,
    output: given.output,
    scheme,
    ignore: given.ignore ?? [],
    overrides,
    lmHead: given.lmHead,
    embedding: given.embedding,
    format: given.format ?? 'integer',
    accuracyLevel: given.accuracyLevel ?? 0,
    lwc: given.lwc ?? true,
    let: given.let ?? scheme.activations !== undefined,
    keepCache: given.keepCache ?? false,
    calib: given.calib,
    samples: given.samples ?? preset.samples,
    seqLen: given.seqLen ?? preset.seqLen,
    capSeqLen: given.seqLen === undefined,
    epochs: given.epochs ?? preset.epochs,
    learningRate,
    letLearningRate: given.letLearningRate ?? learningRate / 2,
    schedule: given.schedule ?? preset.schedule,
    optimizer: given.optimizer ?? 'adamw',
    alpha: given.alpha ?? 0.5,
    augLoss: given.augLoss ?? false,
    saveParams,
    params,
    seed: given.seed ?? 0,
    session: { threads, device },
    // An explicit number of samples or epochs overrides the work limit.
    maxWork: given.samples === undefined && given.epochs === undefined ? preset.maxWork : undefined,
    timeBudgetMs: given.timeBudgetMs,
    workDir: given.workDir,
    fresh: given.fresh ?? false,
  }
}
