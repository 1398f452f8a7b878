/** @file Options of a run. Knows no model. */

import type { OptimizerName } from '../../autodiff/optimizers.ts'
import type { SessionOptions } from '../../kernels/session.ts'
import type { OnEvent } from './report.ts'
import type { EmbeddingOptions, QuantScheme, WeightRules } from './scheme.ts'

/** A transformation, as far as experiments choose among them. */
export interface NamedMapping {
  readonly name: string
  readonly kind: string
  /** Number of scales. */
  readonly size: number
}

/** What is learned, and how. */
export interface Method extends WeightRules {
  readonly scheme: QuantScheme
  /** Learn the clipping of weights. */
  readonly lwc: boolean
  /** Learn equivalent transformations; by default when activations are quantized. */
  readonly let?: boolean | undefined
  /** Make no transformation that scales the KV cache, so that other files of the model can read it. */
  readonly keepCache?: boolean | undefined
  readonly epochs: number
  /** Of the clipping, at the first step. */
  readonly learningRate: number
  /** Of the transformations; by default half of the other (arXiv 2308.13137 section 4.1: 5e-3 and 1e-2). */
  readonly letLearningRate?: number | undefined
  readonly schedule: Schedule
  /** Default: adamw. */
  readonly optimizer?: OptimizerName | undefined
  /** How much of the difficulty moves from activations to weights at the start, 0 to 1 (default 0.5). */
  readonly alpha?: number | undefined
  /** Aim at the middle between the float block's outputs for float and for quantized inputs. */
  readonly augLoss?: boolean | undefined
  /** Chooses among the transformations that were found; by default all of them. */
  readonly selectMappings?: (<M extends NamedMapping>(mappings: readonly M[]) => readonly M[]) | undefined
  readonly session: SessionOptions
  readonly onEvent?: OnEvent | undefined
  /** Ends the run between two programs. */
  readonly signal?: AbortSignal | undefined
}

export interface CalibrationOptions {
  /** Text or token ids; without it the model writes its own text. */
  readonly calib?: string
  readonly samples: number
  readonly seqLen: number
  /** Shorten sequences to the model's positions (a note says so) instead of refusing longer ones. */
  readonly capSeqLen?: boolean
  readonly seed: number
}

export interface EffortLimits {
  /** Learn less than asked where all blocks would take more floating-point operations: the same for everybody. */
  readonly maxWork?: number | undefined
  /** Learn less than asked where all blocks would take longer, in milliseconds: as it is measured when the run begins. */
  readonly timeBudgetMs?: number | undefined
}

export interface ExportOptions {
  /**
   * MatMulNBits' accuracy_level where activations stay float: 0 computes in float32, 4 quantizes activations to int8 on the fly
   * (faster, less exact).
   */
  readonly accuracyLevel: 0 | 4
  /**
   * How weights in planes meet quantized activations. 'integer' (the default): uint8 times int8, which onnxruntime has for CPUs.
   * 'portable': the same numbers in float, by operators of ai.onnx only.
   */
  readonly format?: 'integer' | 'portable' | undefined
}

export interface QuantizeOptions extends CalibrationOptions, Method, EffortLimits, EmbeddingOptions {
  /** An .onnx file, or a folder with one. */
  readonly model: string
  /** A folder, or a path ending in .onnx; by default `<name>-<scheme>.onnx` beside the model. */
  readonly output?: string
  readonly accuracyLevel: 0 | 4
  /** How linears whose activations are quantized are written (default: integer). */
  readonly format?: ExportOptions['format']
  /** Where what is learned goes, besides the model. */
  readonly saveParams?: string | undefined
  /** A file of learned parameters to use instead of learning. */
  readonly params?: string | undefined
  /**
   * Folder in which the run makes one of its own for what is finished before the end; by default that is hidden beside the output.
   * Gone when the run succeeds.
   */
  readonly workDir?: string | undefined
  /** Do not go on from where an earlier run ended. */
  readonly fresh?: boolean | undefined
  /** Milliseconds between two notes, while a block is learned, of where learning would go on (default: 20 000). */
  readonly checkpointMs?: number | undefined
}

export type Schedule = 'constant' | 'cosine'

/** Whether transformations are learned. */
export const learnsEquivalence = (method: Method): boolean => method.let ?? method.scheme.activations !== undefined
