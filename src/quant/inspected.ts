/** @file Report of `inspect`, as data. */

import type { DType } from '../graph/dtype.ts'
import type { OpsetImport } from '../graph/ir.ts'
import type { UnusedWeight } from './find/unused-weights.ts'
import type { KernelSpeed, ProductOp, StoredProduct } from './terms/kernel.ts'
import type { CalibrationReport, RuntimeNeed, SkippedReport, StorageReport } from './terms/report.ts'
import type { TargetName } from './terms/targets.ts'

/** Element type of stored tensors: how many tensors, elements, bytes. */
export interface InspectedType {
  readonly dtype: DType
  readonly tensors: number
  readonly elements: number
  readonly sizeBytes: number
}

export interface InspectedPort {
  readonly name: string
  readonly dtype: DType | null
  /** Names of dimensions that are not fixed; null for one nobody knows, and for a shape nobody knows. */
  readonly shape: readonly (number | string | null)[] | null
}

export interface InspectedLinear {
  readonly name: string
  readonly inFeatures: number
  readonly outFeatures: number
  readonly dtype: DType
  /** Bytes of the weight as it is stored. */
  readonly sizeBytes: number
  /** Remark for a weight whose inputs groups of 128 do not fit. */
  readonly note?: string
}

/** An equivalent transformation that can be learned (LET), or why it cannot. */
export interface InspectedMapping {
  readonly name: string
  /** Scales to learn; absent for one that is skipped. */
  readonly size?: number
  readonly shift?: boolean
  /** Reason for skipping it. */
  readonly reason?: string
}

export interface InspectedBlock {
  readonly index: number
  readonly linears: readonly InspectedLinear[]
  readonly mappings: readonly InspectedMapping[]
}

/** A weight outside the blocks, which stays float unless it is asked for. */
export interface InspectedEmbedding {
  readonly role: 'lm_head' | 'embedding'
  readonly name: string
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly dtype: DType
  readonly sizeBytes: number
  /** True for the one tensor that serves as both. */
  readonly tied: boolean
}

/** A product or table with the kernel that it takes on a target. */
export interface InspectedKernel extends StoredProduct {
  readonly name: string
  /** 'none' where the target cannot run it. */
  readonly kernel: string
  /** Measured speed as a multiple of that of float, where it is known. */
  readonly speed?: KernelSpeed
  /** Fastest kernel that other options would reach. */
  readonly faster?: { readonly name: string; readonly wants: readonly string[] }
  /** Conditions of faster kernels that the model's shapes and types do not meet. */
  readonly shapeWants: readonly string[]
}

/** Kernels of a model on a target. */
export interface InspectedKernels {
  readonly target: TargetName
  /** Scheme that a float model would get; absent for a quantized file, which is described as it is. */
  readonly scheme?: string
  readonly onnxruntime?: RuntimeNeed
  readonly products: readonly InspectedKernel[]
}

/** Quantized weights that are stored alike. */
export interface QuantizedGroup {
  readonly op: ProductOp
  /** Bits of a code in the file. */
  readonly bits: number
  /** Weights that share a scale; absent for one scale per output. */
  readonly group?: number | undefined
  readonly zeroPoints: boolean
  /** Nodes of this kind, and weights that they read. */
  readonly count: number
  readonly weights: number
}

/** Quantized weights of a file. */
export interface InspectedQuantized {
  readonly groups: readonly QuantizedGroup[]
  readonly weights: number
  /** Bits of a quantized weight, with its share of scales and zero points. */
  readonly bitsPerWeight: number
  /** Bits of the whole file for each quantized weight. */
  readonly fileBitsPerWeight: number
  /** Version, scheme, calibration and so on, as omniquant wrote them; absent for files of others. */
  readonly provenance?: Readonly<Record<string, string>>
}

/** A run that was not made: what its output would take, and the run itself. */
export interface DryRun {
  readonly scheme: string
  readonly target: TargetName
  /** Bytes of the output, without names and nodes. */
  readonly sizeAfter: number
  readonly storage: StorageReport
  readonly calibration?: Omit<CalibrationReport, 'digest'>
  readonly learned: readonly string[]
  readonly epochs: number
  readonly threads: number
  /** Bytes of memory at the most, as a rule of thumb (docs/large-models.md). */
  readonly memoryBytes: number
  /** Bytes that the run needs on the disk while it works, with the output. */
  readonly diskBytes: number
  /** Milliseconds that the blocks take, as the first one was measured here with random inputs; absent where nothing is learned. */
  readonly blocksMs?: number
  /** Options that would be better, and why. */
  readonly advice: readonly string[]
  readonly notes: readonly string[]
}

/** Report of `inspect`; as JSON the fields are the same. */
export interface InspectReport {
  readonly model: string
  readonly files: readonly string[]
  readonly sizeBytes: number
  /** Name and version of the exporter, as far as the file says. */
  readonly producer: string
  readonly irVersion: number
  readonly opsets: readonly OpsetImport[]
  readonly nodes: number
  /** Elements of all stored floating-point tensors. */
  readonly parameters: number
  readonly types: readonly InspectedType[]
  /** Floating-point weights that no path leads from to the logits. */
  readonly unused: readonly UnusedWeight[]
  readonly inputs: readonly InspectedPort[]
  readonly outputs: readonly InspectedPort[]
  readonly vocabSize?: number
  readonly maxPositions?: number
  /** Empty when the model cannot be quantized. */
  readonly blocks: readonly InspectedBlock[]
  /** lm_head and embeddings, as far as they are found. */
  readonly outer: readonly InspectedEmbedding[]
  readonly skipped: readonly SkippedReport[]
  /** Bytes of the output, per scheme. */
  readonly estimates: readonly { readonly scheme: string; readonly sizeBytes: number }[]
  /** Quantized weights of a file that is quantized. */
  readonly quantized?: InspectedQuantized
  /** Run with the scheme that was asked for. */
  readonly dryRun?: DryRun
  /** Kernels on the target that was asked for. */
  readonly kernels?: InspectedKernels
  /** Reason why the model cannot be quantized. */
  readonly problem?: { readonly code: string; readonly message: string; readonly hint?: string }
}
