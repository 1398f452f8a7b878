/** @file A quantized product as a file holds it, and a kernel that may run it: types. Knows no model. */

import type { DType } from '../../graph/dtype.ts'
import type { StoredBits } from './targets.ts'

/** Operator that a quantized weight is stored for. `qdq`: DequantizeLinear before MatMul or Gemm. */
export type ProductOp =
  'MatMulNBits' | 'MatMulIntegerToFloat' | 'qdq' | 'QMoE' | 'GatherBlockQuantized' | 'float weight'

/** A product x [.., K] * w [K, N] as a file holds it, or a table of N rows of K elements. */
export interface StoredProduct {
  readonly op: ProductOp
  /** Undefined where the file does not say it. */
  readonly K: number | undefined
  readonly N: number | undefined
  readonly bits: StoredBits
  /** Weights along K that share a stored scale. */
  readonly block: number | undefined
  readonly zeroPoints: 'none' | 'integer' | 'float'
  /** MatMulNBits' accuracy_level: 4 quantizes activations to int8, all below compute in the model's type. */
  readonly level: number
  /** Type of the scales, which is that of the activations. */
  readonly dtype: DType
  /** True for an operator with an input for a bias. */
  readonly bias: boolean
}

/** A product with the name of its weight. */
export interface NamedProduct extends StoredProduct {
  readonly name: string
}

/** Measured speed as a multiple of that of the float file: 2 is twice as fast. */
export interface KernelSpeed {
  /** One token of a whole model whose linears are all alike. */
  readonly token?: number
  /** One token of the product alone (K = N = 2048). */
  readonly product?: number
}

/** Condition of a kernel. */
export interface KernelNeed {
  readonly holds: (product: StoredProduct) => boolean
  /** Continues "it wants ...": "blocks of 32, not 128". */
  readonly wants: (product: StoredProduct) => string
  /** True where an option of the run decides it, false where the model's shapes and types do. */
  readonly optional: boolean
}

export interface Kernel {
  readonly name: string
  readonly ops: readonly ProductOp[]
  readonly needs: readonly KernelNeed[]
  readonly speed?: (product: StoredProduct) => KernelSpeed | undefined
}
