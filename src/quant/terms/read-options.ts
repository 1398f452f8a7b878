/** @file Options and events of the commands that only read a model: evaluate and inspect. Knows no model. */

import type { DeviceChoice } from '../../kernels/device.ts'
import { checkOptions, DEVICE, listOf, oneOf, type Rules, TEXT, wholeNumber } from './check-options.ts'
import { RULES } from './option-rules.ts'
import type { QuantizeOptions } from './options.ts'
import { resolveOptions } from './resolve-options.ts'

/** Options of `evaluate`. An option that is absent or undefined has its default. */
export interface EvaluateOptions {
  /** An .onnx file, or a folder with one. */
  readonly model: string
  /** File with text or token ids. */
  readonly text: string
  /** Further models to measure on the same tokens, with the same vocabulary. */
  readonly others?: readonly string[] | undefined
  /** A model or folder whose tokenizer reads the text (default: the first that is beside one of the models). */
  readonly tokenizer?: string | undefined
  /** The reference, such as the float model: it is measured too, and the distance of the models from it (docs/evaluate.md). */
  readonly against?: string | undefined
  /** Tokens per window (default: 256, or the model's positions if those are fewer, or the length that the model takes). */
  readonly seqLen?: number | undefined
  /** Tokens by which a window starts after the one before it, up to `seqLen`; only tokens that are new count (default: `seqLen`, no overlap). */
  readonly stride?: number | undefined
  /** Number of windows to measure (default: all). */
  readonly windows?: number | undefined
  /** Threads (default: as many as cores). */
  readonly threads?: number | undefined
  /**
   * Device for the computation: "cpu", "cuda" (or "cuda:1"), "webgpu" or "auto" (default). "auto" is CUDA where a small program gives the
   * right numbers there, else the CPU (docs/gpu.md). Only `quantize` and `evaluate` of the package choose; a call below them takes the CPU.
   */
  readonly device?: DeviceChoice | undefined
  /**
   * For files with DequantizeLinear before their products (`format` "qdq"): 0 multiplies in float32, 4 rounds activations to 8 bits, as
   * onnxruntime does by itself.
   */
  readonly qdqAccuracyLevel?: 0 | 4 | undefined
}

export const EVALUATE_RULES: Rules<EvaluateOptions> = {
  model: TEXT,
  text: TEXT,
  others: listOf(value => typeof value === 'string', 'texts'),
  tokenizer: TEXT,
  against: TEXT,
  seqLen: wholeNumber(2),
  stride: wholeNumber(1),
  windows: wholeNumber(1),
  threads: wholeNumber(1),
  device: DEVICE,
  qdqAccuracyLevel: oneOf([0, 4]),
}

/** Refuses options that cannot be. @throws E_USAGE with the key of the option. */
export function checkEvaluateOptions(given: EvaluateOptions): void {
  checkOptions(given, EVALUATE_RULES, ['model', 'text'])
}

/** Emitted while a model is being evaluated. */
export interface EvaluateEvent {
  readonly type: 'evaluating'
  readonly model: string
  /** Windows that are done, of `total`. */
  readonly done: number
  readonly total: number
}

/** Options of the measurement of speed and memory that follows an evaluation. */
export interface SpeedOptions extends Pick<EvaluateOptions, 'model' | 'threads' | 'device' | 'qdqAccuracyLevel'> {
  /** Tokens of a window. */
  readonly seqLen: number
}

/** Emitted before the speed of a model is measured. */
export interface SpeedEvent {
  readonly type: 'timing'
  readonly model: string
}

/** Connections of an evaluation to its caller. */
export interface Evaluating {
  readonly onEvent?: ((event: EvaluateEvent) => void) | undefined
  /** Ends the evaluation between two runs. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Options of `inspect`. With a `target` the kernels of a model are named, as the target's own scheme has them or the one that is given.
 * With any other option, such as a `scheme`, a run of `quantize` with all of them is foretold, and not made.
 */
export interface InspectOptions extends Omit<QuantizeOptions, 'scheme'> {
  /** "w4a16" */
  readonly scheme?: string | undefined
}

export const INSPECT_RULES: Rules<InspectOptions> = { ...RULES, scheme: TEXT }

/** Options that say how to look at a model, and nothing of a run. */
const LOOKING: readonly string[] = ['model', 'seqLen', 'target']

/** True where a run is to be foretold. */
export const asksForDryRun = (options: InspectOptions): boolean =>
  Object.entries(options).some(([key, value]) => value !== undefined && !LOOKING.includes(key))

/** Refuses options that cannot be. @throws E_USAGE, E_SCHEME with the key of the option. */
export function checkInspectOptions(given: InspectOptions): void {
  checkOptions(given, INSPECT_RULES, ['model'])
  if (asksForDryRun(given)) resolveOptions(given)
}
