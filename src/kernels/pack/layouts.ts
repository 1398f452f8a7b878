/** @file Layouts of quantized weights: each has a node that reads it, and a function that packs codes for it. */

import { sizesOf, type StoredWeight } from '../round/tile-layout.ts'
import { packDequantize, type PackedDequantize } from './dequantize-linear.ts'
import { type PackedWeight, packMatMulNBits, type WeightCodes } from './matmul-nbits.ts'
import { type PackedPlanes, packPlanes } from './planes.ts'
import { packRounded, roundStored } from './rounded.ts'

/** A quantized weight in the layout of the node that will read it. */
export type PackedLinear = PackedWeight | PackedPlanes | PackedDequantize

/** Nodes that read a weight: MatMulNBits, products of integers, DequantizeLinear. */
export type Layout = 'nbits' | 'planes' | 'dequantize'

const PACKINGS: Readonly<Record<Layout, (weight: WeightCodes) => PackedLinear>> = {
  nbits: packMatMulNBits,
  planes: packPlanes,
  dequantize: packDequantize,
}

/** @throws E_SCHEME, E_UNSUPPORTED when the layout cannot hold the weight. */
export const packAs = (layout: Layout, weight: WeightCodes): PackedLinear => PACKINGS[layout](weight)

/**
 * Gives the result of `packAs(layout, quantizeWeight(w))` for a weight in a file.
 * @throws E_UNSUPPORTED when a weight is no sound number, E_SCHEME when the quantizer cannot be stored, E_EXTERNAL_DATA.
 */
export function packStored(
  layout: Layout,
  stored: StoredWeight,
  quantizer: Omit<WeightCodes, 'K' | 'N' | 'codes' | 'scale' | 'zeroPoint'>,
): PackedLinear {
  // The layout of MatMulNBits is written tile by tile, without the codes in between.
  if (layout === 'nbits') return packRounded(stored, quantizer)
  return packAs(layout, { ...roundStored(stored, quantizer), ...quantizer, ...sizesOf(stored) })
}
