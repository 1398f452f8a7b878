/** @file Events and report of a run: data for people and for --json. */

import type { SetPlace } from '../../files/file-set.ts'
import type { WorkPlace } from '../../files/work-folder.ts'
import type { Device } from '../../kernels/device.ts'
import type { ChoiceReport } from './sensitivity.ts'
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

/** Room that weights take in the output. */
export interface StorageReport {
  /** Bits of the scheme's weights, and those that a code takes in the file: 3 lie in 4; 5, 6 and 7 in 8. */
  readonly bits: number
  readonly storedBits: number
  /** Weights that are quantized, in and outside the blocks. */
  readonly quantizedWeights: number
  /** Bits of one of them, with its share of scales and zero points. */
  readonly bitsPerQuantizedWeight: number
  /** Floating-point numbers of the model. */
  readonly parameters: number
  /** Bits of the whole output for each of them. */
  readonly bitsPerParameter: number
}

/** Tokens that a run learned from. */
export interface CalibrationReport {
  /** File name of the text or tokens; absent where the model wrote its own text. */
  readonly file?: string
  readonly samples: number
  /** Tokens of a sample. */
  readonly seqLen: number
  /** Digest of the tokens: 16 hexadecimal digits of SHA-256. */
  readonly digest: string
}

/** Comparison of both models on calibration text that nothing was learned from. */
export interface CheckReport {
  readonly windows: number
  readonly seqLen: number
  /** Tokens that were predicted. */
  readonly tokens: number
  /** Perplexity of the float and of the quantized model, and quantized / float. */
  readonly float: number
  readonly quantized: number
  readonly ratio: number
}

/** Errors of the blocks' outputs as a whole. */
export interface ErrorSummary {
  /** Squared error that learning left, as a part of that of weights rounded to nearest: mean over the blocks. */
  readonly left: number
  /** Blocks that were learned, and those of them that stayed rounded. */
  readonly learned: number
  readonly rounded: number
}

export interface QuantizeReport {
  readonly model: string
  /** Version of omniquant. */
  readonly version: string
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
  /** Bits that the run chose; absent where it was told all of them. */
  readonly choice?: ChoiceReport
  /** Things worth knowing: groups wider than a weight, a shortened sequence, ... */
  readonly notes: readonly string[]
  readonly storage: StorageReport
  /** Absent for a run that learned from no text. */
  readonly calibration?: CalibrationReport
  /** Absent where no block was learned. */
  readonly error?: ErrorSummary
  /** The comparison, or why there is none. */
  readonly check: CheckReport | { readonly skipped: string }
  readonly seed: number
  readonly threads: number
  /** Names of the files that were copied from beside the model. */
  readonly copied: readonly string[]
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

/** Plan of a run. */
export interface RunPlan {
  readonly model: string
  readonly sizeBefore: number
  readonly blocks: number
  readonly linears: number
  readonly scheme: string
  readonly target: TargetName
  readonly output: string
  /** Bytes of the output, without names and nodes. */
  readonly sizeAfter: number
  readonly storage: StorageReport
  /** Absent for a run that needs no text. */
  readonly calibration?: Omit<CalibrationReport, 'digest'>
  /** Things that are learned: "clipping", "rounding", ... */
  readonly learned: readonly string[]
  readonly epochs: number
  readonly threads: number
  /** Folder of the run, for finished blocks. */
  readonly workDir: string
  /** Things worth knowing before it begins; they are among the notes of the report. */
  readonly notes: readonly string[]
}

/** Emitted while a model is being quantized. */
export type QuantizeEvent =
  /** Everything was checked: the work begins. */
  | { readonly type: 'planned'; readonly plan: RunPlan }
  | { readonly type: 'analyzed'; readonly blocks: number; readonly linears: number }
  | { readonly type: 'working'; readonly traces: Traces }
  | { readonly type: 'calibrating'; readonly done: number; readonly total: number }
  | {
      readonly type: 'choosing'
      /** Before the blocks are learned, and when the output is there. */
      readonly phase: 'sensitivities' | 'divergence'
      readonly done: number
      readonly total: number
    }
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
  /** Bytes that are written, of how many. */
  | { readonly type: 'saving'; readonly done: number; readonly total: number }
  /** The output is complete. */
  | { readonly type: 'saved'; readonly output: string }
  /** Perplexity on held-out text; windows that are done, of how many. */
  | { readonly type: 'checking'; readonly model: 'float' | 'quantized'; readonly done: number; readonly total: number }

export type OnEvent = (event: QuantizeEvent) => void
