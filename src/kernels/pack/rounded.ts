/** @file Stored weights quantized: as codes, packed for MatMulNBits, or as rows of a table. Never whole in memory as float32. */

import { readElements, type Tensor, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../float16.ts'
import { requireSound } from '../magnitude.ts'
import type { WeightQuantizer } from '../qparams.ts'
import { sizesOf, type StoredWeight } from '../round/tile-layout.ts'
import { roundTiles } from '../round/tiles.ts'
import { transpose2d } from '../transpose.ts'
import { type QuantizedWeight, quantizeWeight } from '../weights.ts'
import { packedLayout, type PackedWeight, packMatMulNBits, type WeightCodes, withScales } from './matmul-nbits.ts'

/** By the definition, for weights the kernels cannot take. */
function quantizeStored({ name, tensor, transposed, clip }: StoredWeight, quantizer: WeightQuantizer): QuantizedWeight {
  const [rows, cols] = tensor.dims as [number, number]
  const stored = readFloats(tensor)
  requireSound(stored, cols, `the weight of ${name}`)
  if (!transposed) return quantizeWeight(stored, rows, cols, quantizer, clip)
  return quantizeWeight(transpose2d(stored, rows, cols), cols, rows, quantizer, clip)
}

/**
 * Gives the result of `quantizeWeight(w)`, with the weight's clip ratios, for a weight in a file.
 * @throws E_UNSUPPORTED when a weight is no sound number, E_SCHEME when the quantizer cannot be, E_EXTERNAL_DATA.
 */
export function roundStored(stored: StoredWeight, quantizer: WeightQuantizer, tileBytes?: number): QuantizedWeight {
  const { K, N } = sizesOf(stored)
  const layout = { kernel: 'codes', unit: 1, shift: 0, sizeBytes: K * N, strideBytes: N } as const
  const at = (k: number, n: number) => k * N + n
  return roundTiles(stored, quantizer, { ...layout, at }, tileBytes) ?? quantizeStored(stored, quantizer)
}

/**
 * Gives the result of `packMatMulNBits(quantizeWeight(w))`, with the weight's clip ratios, for a weight in a file. The result does not
 * depend on `tileBytes`.
 * @throws E_UNSUPPORTED when a weight is no sound number, E_SCHEME when the quantizer cannot be stored, E_EXTERNAL_DATA.
 */
export function packRounded(
  stored: StoredWeight,
  quantizer: WeightQuantizer & Pick<WeightCodes, 'blockSize'>,
  tileBytes?: number,
): PackedWeight {
  const { K, N } = sizesOf(stored)
  const { bits, blockSize, blocks, shift } = packedLayout({ K, ...quantizer })
  const strideBytes = (blocks * blockSize * bits) / 8
  const layout = { kernel: `pack${bits}`, unit: blockSize, shift, sizeBytes: N * strideBytes, strideBytes } as const
  const at = (k: number, n: number) => n * strideBytes + (k * bits) / 8
  const rounded = roundTiles(stored, quantizer, { ...layout, at }, tileBytes)
  if (rounded) return withScales(rounded.codes, { ...rounded, ...quantizer, K, N })
  return packMatMulNBits({ ...quantizeStored(stored, quantizer), ...quantizer, K, N })
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
