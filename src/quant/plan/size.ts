/** @file Sizes of quantized weights. Knows layouts, reads nothing. */

import { dequantizeBits } from '../../kernels/pack/dequantize-linear.ts'
import { chooseBlockSize, containerBits } from '../../kernels/pack/matmul-nbits.ts'
import { planeBits } from '../../kernels/pack/planes.ts'
import { groupsOf } from '../../kernels/qparams.ts'
import type { Linear } from '../find/linears.ts'
import type { ExportOptions } from '../terms/options.ts'
import type { QuantScheme } from '../terms/scheme.ts'

/**
 * Bytes MatMulNBits stores for a weight: codes, and a scale and a zero point for each of its blocks; or those of planes, or of
 * DequantizeLinear.
 */
export function packedBytes(
  { inFeatures, outFeatures, weight }: Linear,
  { weights, activations }: QuantScheme,
  format?: ExportOptions['format'],
): number {
  const scale = weight.tensor!.dtype === 'float16' ? 2 : 4
  if (format === 'qdq') {
    const bits = dequantizeBits(weights.bits)
    const { count } = groupsOf(inFeatures, weights.group ?? inFeatures)
    return outFeatures * ((inFeatures * bits) / 8 + count * (scale + bits / 8))
  }
  if (activations && weights.group === undefined)
    return outFeatures * ((inFeatures * planeBits(weights.bits)) / 8 + 4 + 4 + 1)
  const bits = containerBits(weights.bits)
  const blockSize = chooseBlockSize(inFeatures, weights.group ?? inFeatures)
  const blocks = Math.ceil(inFeatures / blockSize)
  return outFeatures * ((blocks * blockSize * bits) / 8 + blocks * scale + Math.ceil((blocks * bits) / 8))
}
