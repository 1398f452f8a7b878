/** @file Options of a run, as types: as they are given, and resolved. Everything in quant reads resolved options. Knows no model. */

import type { OptimizerName } from '../../autodiff/optimizers.ts'
import type { StateType } from '../../calibration/activation-store.ts'
import type { RangeChoice } from '../../kernels/choose-range.ts'
import type { DeviceChoice } from '../../kernels/device.ts'
import type { MatMulPrecision } from '../../kernels/matmul-precision.ts'
import type { SessionOptions } from '../../kernels/session.ts'
import type { PresetName, Schedule } from './presets.ts'
import type { OnEvent } from './report.ts'
import type { Rounding } from './roundings.ts'
import type {
  EmbeddingChoices,
  EmbeddingOptions,
  QuantScheme,
  SchemeOverrides,
  WeightRules,
  WeightScheme,
} from './scheme.ts'
import type { ChoiceLimit } from './sensitivity.ts'
import type { TargetName } from './targets.ts'

export type { Schedule } from './presets.ts'
export type { Rounding } from './roundings.ts'

/** transformers.js: `onnx/model_q4.onnx`, with tokenizer and config.json in the folder above. */
export type OutputLayout = 'transformers.js'

/**
 * Product of weights in planes and quantized activations. 'integer': uint8 times int8, which onnxruntime has for CPUs.
 * 'portable': the same numbers in float, by operators of ai.onnx only. 'qdq': a DequantizeLinear gives the weight to the product
 * that the model has, in place of MatMulNBits too.
 */
export type Format = 'integer' | 'portable' | 'qdq'

/** Options of `quantize` as they are given. An option that is absent or undefined has its default. */
export interface QuantizeOptions extends WeightRules, EmbeddingChoices, SchemeOverrides {
  /** An .onnx file, or a folder with one. */
  readonly model: string
  /** A folder, or a path ending in .onnx; by default `<name>-<scheme>.onnx` beside the model. */
  readonly output?: string | undefined
  /** Names and folders that a client expects; by default as the folders of model and output show them. */
  readonly layout?: OutputLayout | undefined
  /** Runtime and device the output is for (default: "cpu"): it fills in the options below that are not said (docs/targets.md). */
  readonly target?: TargetName | undefined
  /** Bits of weights and activations: "w4a16", "w3a16g64", "w8a8". Either this, `bits` or `target` is needed. */
  readonly scheme?: string | QuantScheme | undefined
  /** Bits of the weights, 2 to 8, instead of a scheme. */
  readonly bits?: number | undefined
  /** Bits of the activations, with `bits` (default: 16, not quantized). */
  readonly activationBits?: number | undefined
  /**
   * Choose 2, 4 or 8 bits for each weight, so that the output has at most so many bytes and differs least from the float model
   * (docs/choose-bits.md). Instead of a scheme or `bits`.
   */
  readonly maxSize?: number | undefined
  /** Choose bits so that the output is as small as it can be while its logits diverge by at most so much (mean KL of a token). */
  readonly maxKl?: number | undefined
  /** File (.json) of measured sensitivities, with `maxSize` or `maxKl`: used where it is there, written where it is not. */
  readonly sensitivity?: string | undefined
  /** Report sensitivities and choice, and write no model (default: false). */
  readonly dryRun?: boolean | undefined
  /**
   * Form of quantized linears. "qdq": DequantizeLinear before the model's own MatMul, with float activations. With quantized ones
   * "integer" (default; fast on CPUs) or "portable".
   */
  readonly format?: Format | undefined
  /** 0 computes in float32 (default), 4 with activations that the kernel rounds to 8 bits: faster. Learning takes that into account. */
  readonly accuracyLevel?: 0 | 4 | undefined
  /** Write a float16 model: constants, activations, inputs and outputs that were float32 (default: false). */
  readonly float16?: boolean | undefined
  /** Amount and speed of learning (default: "default"); the options below win over it. */
  readonly preset?: PresetName | undefined
  /** File with text or token ids; without it the model writes its own text. */
  readonly calib?: string | undefined
  /** Calibration samples (default: as the preset has it, and fewer for large models). */
  readonly samples?: number | undefined
  /** Tokens of a sample (default: as the preset has it). A preset's are cut to the positions of the model; those given here are refused where they are too many. */
  readonly seqLen?: number | undefined
  /** Passes over all samples (default: as the preset has it). */
  readonly epochs?: number | undefined
  /** Learning rate of the clipping, at the first step (default: as the preset has it). */
  readonly learningRate?: number | undefined
  /** Development of the learning rate over the steps: "cosine" falls to 0 (default: as the preset has it). */
  readonly schedule?: Schedule | undefined
  /** Rule of the steps (default: "adamw"). "sign-sgd" takes least memory. */
  readonly optimizer?: OptimizerName | undefined
  /** Learn the clipping of weights (default: true). With nothing to learn, weights are rounded to nearest. */
  readonly lwc?: boolean | undefined
  /**
   * Rounding of weights (default: "weighted-learned" up to 4 bits where clipping is learned, else "nearest"). "weighted": to nearest over ranges
   * searched for the least error; "learned": each weight to the code above or below it; "weighted-learned": the same from these ranges;
   * "gptq": codes make up for the errors of others.
   */
  readonly rounding?: Rounding | undefined
  /** Learning rate of the rounding, in steps of the grid, at the first step (default: as the preset has it). */
  readonly roundingLearningRate?: number | undefined
  /** Start of the ranges of static activations (default: "mse"). */
  readonly range?: RangeChoice | undefined
  /** Learn the ranges of static activations (default: as `lwc`), or which share of a token's range is quantized (default: with "affine"). */
  readonly learnRanges?: boolean | undefined
  /**
   * Learn equivalent transformations (default: where activations are quantized; at accuracy level 4 those behind norms). "affine": and a
   * matrix for the input of each linear, which the model computes when it runs.
   */
  readonly let?: boolean | 'affine' | undefined
  /** Make no transformation that scales the KV cache, so that other files of the model can read it (default: false). */
  readonly keepCache?: boolean | undefined
  /** Learning rate of the transformations; by default half of `learningRate` (arXiv 2308.13137 section 4.1: 5e-3 and 1e-2). */
  readonly letLearningRate?: number | undefined
  /** Learn the gains of norms too, which changes what stays float. Default: up to 4 bits where clipping is learned, as the preset has it. */
  readonly learnGains?: boolean | undefined
  /** Share of the difficulty that starts in the weights, 0 to 1 (default: 0.5). */
  readonly alpha?: number | undefined
  /** Aim at the middle between the float block's outputs for float and for quantized inputs (default: false). */
  readonly augLoss?: boolean | undefined
  /**
   * Learn each block for the error behind the next one, and the last for the logits (default: false). Takes half as long again, and the
   * memory of one more block.
   */
  readonly lookahead?: boolean | undefined
  /** Type in which hidden states between blocks lie on disk (default: "float32"). "float16" takes half the room. */
  readonly hiddenStates?: StateType | undefined
  /** File (.safetensors) for the learned parameters, besides the model. */
  readonly saveParams?: string | undefined
  /** File of learned parameters to use instead of learning. */
  readonly params?: string | undefined
  /** Choice of samples, and of the model's own text (default: 0). */
  readonly seed?: number | undefined
  /** Threads (default: as many as cores). */
  readonly threads?: number | undefined
  /**
   * Device for the computation: "cpu", "cuda" (or "cuda:1"), "webgpu" or "auto" (default). "auto" is CUDA where a small program gives the
   * right numbers there, else the CPU (docs/gpu.md). Only `quantize` and `evaluate` of the package choose; a call below them takes the CPU.
   */
  readonly device?: DeviceChoice | undefined
  /** Precision of matrix products while learning (default: the device's own, tf32 on CUDA and float32 elsewhere). */
  readonly matmul?: MatMulPrecision | undefined
  /** Devices that share the learning of each block, as ["cuda:0", "cuda:1"]; the first one does what is not shared. */
  readonly devices?: readonly DeviceChoice[] | undefined
  /** Learn from fewer samples, so that all blocks end within so many milliseconds. */
  readonly timeBudgetMs?: number | undefined
  /** Folder in which the run makes its own for finished blocks (default: a hidden one beside the output). Gone after success. */
  readonly workDir?: string | undefined
  /** Replace an output that is there (default: false). */
  readonly force?: boolean | undefined
  /** Compare the perplexity of both models on calibration text that nothing is learned from (default: true). */
  readonly check?: boolean | undefined
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
  /**
   * MatMulNBits' accuracy_level where the scheme leaves activations as they are: 0 computes in float32, 4 rounds activations to 8 bits
   * on the fly (faster), which is then learned too.
   */
  readonly accuracyLevel: 0 | 4
  readonly lwc: boolean
  readonly rounding: Rounding
  /** Equivalent transformations to learn: all, those behind norms, all with matrices before linears, or none. */
  readonly let: boolean | 'norm' | 'affine'
  /** Start of the ranges of static activations. */
  readonly range: RangeChoice
  /** Learn ranges of static activations from there, or the share of a token's range that is quantized. */
  readonly learnRanges: boolean
  readonly keepCache: boolean
  readonly epochs: number
  readonly learningRate: number
  readonly letLearningRate: number
  readonly learnGains: boolean
  readonly roundingLearningRate: number
  readonly schedule: Schedule
  readonly optimizer: OptimizerName
  readonly alpha: number
  readonly augLoss: boolean
  readonly lookahead: boolean
  readonly hiddenStates: StateType
  readonly session: SessionOptions
}

/** Options of a block's life, with the hooks of the run. */
export interface Method extends LearningOptions, Pick<ExportOptions, 'format'>, Hooks {}

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
  /** Most weights of a block whose rounding is learned (presets.ts). */
  readonly maxRounded?: number | undefined
  /** Limit of milliseconds for all blocks: above it less is learned, as measured when the run begins. */
  readonly timeBudgetMs?: number | undefined
}

export interface ExportOptions extends Pick<LearningOptions, 'accuracyLevel'> {
  readonly format: Format
  /**
   * Lookup in quantized embeddings. 'operator' (default): com.microsoft GatherBlockQuantized, which wasm builds of onnxruntime lack.
   * 'standard' (default with the formats 'portable' and 'qdq'): the same bytes by operators of ai.onnx only.
   */
  readonly lookup?: 'operator' | 'standard' | undefined
}

/** Choice of the bits of each weight. */
export interface Choosing extends ChoiceLimit {
  /** Schemes that a weight may get. */
  readonly candidates: readonly WeightScheme[]
  readonly sensitivity: string | undefined
  readonly dryRun: boolean
}

/** Options of a run with every default filled in. */
export interface ResolvedOptions
  extends LearningOptions, CalibrationOptions, EffortLimits, ExportOptions, EmbeddingOptions {
  readonly model: string
  readonly target: TargetName
  readonly output: string | undefined
  readonly layout: OutputLayout | undefined
  readonly saveParams: string | undefined
  readonly params: string | undefined
  readonly workDir: string | undefined
  readonly float16: boolean
  readonly force: boolean
  readonly check: boolean
  readonly fresh: boolean
  /** Absent where the run is told all bits. */
  readonly choosing?: Choosing | undefined
}

/** A run: its options, and its connections to the caller. */
export interface Run extends ResolvedOptions, Hooks {}
