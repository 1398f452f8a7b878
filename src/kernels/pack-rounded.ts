/** @file A stored weight rounded to nearest and packed, a slice of its outputs at a time: vocabularies are the largest weights there are. */

import { readElements, type Tensor, tensorOf } from '../graph/tensor.ts'
import { quantizeWeight } from './fake-quantize.ts'
import { readFloats } from './float16.ts'
import { type PackedWeight, packMatMulNBits } from './pack.ts'
import { requireFinite, type WeightQuantizer } from './qparams.ts'
import { columns, transpose2d } from './tensor.ts'

/** Weights of a slice: its float32 and its codes stay within some tens of MB. */
const SLICE_ELEMENTS = 2 ** 22

export interface StoredWeight {
  /** For error messages. */
  readonly name: string
  /** [K, N], or [N, K] when `transposed`; of any float type. */
  readonly tensor: Tensor
  readonly transposed: boolean
}

/** Row-major tensors of equal width, one below the other. */
function stacked(parts: readonly Tensor[]): Tensor {
  const [first] = parts as [Tensor]
  if (parts.length === 1) return first
  const rows = parts.reduce((sum, { dims }) => sum + dims[0]!, 0)
  const data = new Uint8Array(parts.reduce((sum, part) => sum + (part.data as Uint8Array).length, 0))
  let at = 0
  for (const part of parts) {
    data.set(part.data as Uint8Array, at)
    at += (part.data as Uint8Array).length
  }
  return { dtype: first.dtype, dims: [rows, ...first.dims.slice(1)], data }
}

/**
 * What `packMatMulNBits(quantizeWeight(w))` gives, for a weight that may be large. `slice`: outputs at a time; the result does not
 * depend on it.
 * @throws E_UNSUPPORTED when a weight is not finite.
 */
export function packRounded(
  { name, tensor, transposed }: StoredWeight,
  quantizer: WeightQuantizer,
  slice?: number,
): PackedWeight {
  const [rows, cols] = tensor.dims as [number, number]
  const [K, N] = transposed ? [cols, rows] : [rows, cols]
  const stored = readFloats(tensor)
  requireFinite(stored, cols, `the weight of ${name}`)
  const width = slice ?? Math.max(1, Math.floor(SLICE_ELEMENTS / K))
  const parts: PackedWeight[] = []
  for (let from = 0; from < N; from += width) {
    const to = Math.min(from + width, N)
    const w = transposed
      ? transpose2d(stored.subarray(from * K, to * K), to - from, K)
      : columns(stored, K, N, from, to)
    parts.push(packMatMulNBits({ ...quantizeWeight(w, K, to - from, quantizer), ...quantizer, K, N: to - from }))
  }
  const [{ bits, blockSize, zeroPoints }] = parts as [PackedWeight]
  return {
    bits,
    blockSize,
    b: stacked(parts.map(({ b }) => b)),
    scales: stacked(parts.map(({ scales }) => scales)),
    ...(zeroPoints && { zeroPoints: stacked(parts.map(part => part.zeroPoints!)) }),
  }
}

/**
 * The codes of a packed weight as the rows of a table, uint8 [N, K * bits / 8], for com.microsoft GatherBlockQuantized (opset 1):
 * MatMulNBits' own bytes, but for the padding behind each row's last block. K * bits must be a multiple of 8.
 */
export function tableRows({ bits, b }: PackedWeight, K: number): Tensor {
  const [N, blocks, blockBytes] = b.dims as [number, number, number]
  const rowBytes = (K * bits) / 8
  const padded = blocks * blockBytes
  if (padded === rowBytes) return { ...b, dims: [N, rowBytes] }
  const bytes = readElements(b) as Uint8Array
  const rows = new Uint8Array(N * rowBytes)
  for (let n = 0; n < N; n++) rows.set(bytes.subarray(n * padded, n * padded + rowBytes), n * rowBytes)
  return tensorOf('uint8', [N, rowBytes], rows)
}
