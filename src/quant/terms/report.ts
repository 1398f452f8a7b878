/** @file Events and report of a run: data for people and for --json. */

import type { SetPlace } from '../../files/file-set.ts'
import type { WorkPlace } from '../../files/work-folder.ts'
import type { Device } from '../../kernels/device.ts'
import type { LinearReport, LossCurve, ScalesReport } from './learning-report.ts'
import type { TargetName } from './targets.ts'

/** Experts that saw too few tokens to be learned. */
export interface FewTokens {
  /** Counted from 0, in the order of the graph. */
  readonly experts: readonly number[]
  /** Tokens that the most demanding of their linears needs. */
  readonly needed: number
}

/** A fixed range of activations, as the file has it. */
export interface ActivationReport {
  /** Value that is quantized. */
  readonly name: string
  readonly bits: number
  /** Least and greatest number that the codes stand for. */
  readonly min: number
  readonly max: number
}

/** One finished block. */
export interface BlockReport {
  readonly index: number
  readonly linears: readonly string[]
  /** Transformations that were learned with it. */
  readonly mappings: readonly string[]
  /** Fixed ranges of its activations; absent where activations have none. */
  readonly activations?: readonly ActivationReport[]
  /** Mean squared error of the block's output on the calibration samples, rounded to nearest and with what was learned. */
  readonly roundedLoss?: number
  readonly learnedLoss?: number
  /** The one of the two that the file has: learning that did not help is thrown away. */
  readonly kept?: 'learned' | 'rounded'
  /** Course of training; absent where nothing was trained. */
  readonly losses?: LossCurve | undefined
  /** Figures of the quantized linears, in the order of `linears`; absent for a block without any. */
  readonly figures?: readonly LinearReport[]
  /** Scales of the transformations; absent where none were learned, or the block was rounded in the end. */
  readonly scales?: readonly ScalesReport[]
  /** Steps at which the loss stopped being finite: the best parameters came back, at half the learning rate. */
  readonly rollbacks?: readonly number[]
  /** Experts that saw fewer calibration tokens than are needed to learn them: they are rounded to nearest. */
  readonly fewTokens?: FewTokens
  /** Device that ran its programs; absent for a block that was rounded without running it. */
  readonly device?: Device
  /** Largest resident set until then of the process that worked, in bytes; absent where the system does not tell. */
  readonly peakMemoryBytes?: number | undefined
  readonly elapsedMs: number
}

/** Errors of a weight outside the blocks, where its clipping was learned. */
export interface OuterLearning {
  /**
   * Mean squared error of the logits on the calibration samples, with a tenth for the weight's own error; of a table that is no
   * lm_head, sum of squared errors of a row. Rounded to nearest, and with what was learned.
   */
  readonly roundedLoss?: number
  readonly learnedLoss?: number
}

/** A weight outside the blocks that was quantized. */
export interface EmbeddingReport extends OuterLearning {
  /** 'lm_head+embedding': one stored tensor for both. */
  readonly role: 'lm_head' | 'embedding' | 'lm_head+embedding'
  readonly name: string
  readonly bits: number
  /** Elements that share a scale. */
  readonly group: number
  readonly vocabSize: number
  readonly hiddenSize: number
}

export interface SkippedReport {
  readonly node: string
  readonly reason: string
}

/** Versions of onnxruntime, as "1.24". */
export interface RuntimeNeed {
  /** Least version that runs the file. */
  readonly least: string
  /** Nodes of the file that need it. */
  readonly because: readonly string[]
  /** Version from which on its kernels are fast on CPUs, where that is a later one. */
  readonly fast?: string
}

export interface QuantizeReport {
  readonly model: string
  /** Place the output is for. */
  readonly target: TargetName
  readonly output: string
  readonly files: readonly string[]
  readonly scheme: string
  /** Absent for an output without quantized nodes. */
  readonly onnxruntime?: RuntimeNeed
  readonly blocks: readonly BlockReport[]
  /** lm_head and embeddings, where they were to be quantized. */
  readonly outer: readonly EmbeddingReport[]
  readonly skipped: readonly SkippedReport[]
  /** Things worth knowing: groups wider than a weight, a shortened sequence, ... */
  readonly notes: readonly string[]
  /** Bytes of model and data files before and after. */
  readonly sizeBefore: number
  readonly sizeAfter: number
  readonly elapsedMs: number
}

/** Files of a run on the disk before there is a result. */
export interface Traces {
  /** Holds what is finished, for the same run to go on from. */
  readonly work: WorkPlace
  /** Names of the output: files that are nothing unless they are complete lie beside them. */
  readonly output: SetPlace
}

/** Emitted while a model is being quantized. */
export type QuantizeEvent =
  | { readonly type: 'analyzed'; readonly blocks: number; readonly linears: number }
  | { readonly type: 'working'; readonly traces: Traces }
  | { readonly type: 'calibrating'; readonly done: number; readonly total: number }
  | {
      readonly type: 'block'
      readonly index: number
      readonly blocks: number
      readonly phase: 'targets' | 'learning' | 'rounding' | 'outputs'
      readonly done: number
      readonly total: number
      readonly loss?: number
    }
  | {
      readonly type: 'blockDone'
      readonly report: BlockReport
      readonly blocks: number
      /** An earlier run did it. */
      readonly resumed: boolean
    }
  | {
      readonly type: 'outer'
      /** lm_head or an embedding. */
      readonly name: string
      readonly phase: 'inputs' | 'clipping'
      readonly done: number
      readonly total: number
    }
  | { readonly type: 'saving' }

export type OnEvent = (event: QuantizeEvent) => void
