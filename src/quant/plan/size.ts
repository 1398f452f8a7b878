/** @file Sizes of quantized weights. Knows layouts, reads nothing. */

import { chooseBlockSize, containerBits } from '../../kernels/pack/matmul-nbits.ts'
import { planeBits } from '../../kernels/pack/planes.ts'
import type { Linear } from '../find/linears.ts'
import type { QuantScheme } from '../terms/scheme.ts'

/** Bytes MatMulNBits stores for a weight: codes, and a scale and a zero point for each of its blocks; or those of planes. */
export function packedBytes(
  { inFeatures, outFeatures, weight }: Linear,
  { weights, activations }: QuantScheme,
): number {
  if (activations && weights.group === undefined)
    return outFeatures * ((inFeatures * planeBits(weights.bits)) / 8 + 4 + 4 + 1)
  const bits = containerBits(weights.bits)
  const blockSize = chooseBlockSize(inFeatures, weights.group ?? inFeatures, weights.bits)
  const blocks = Math.ceil(inFeatures / blockSize)
  const scale = weight.tensor!.dtype === 'float16' ? 2 : 4
  return outFeatures * ((blocks * blockSize * bits) / 8 + blocks * scale + Math.ceil((blocks * bits) / 8))
}
