/** @file Sizes of quantized weights. Knows layouts, reads nothing. */

import { dequantizeBits } from '../../kernels/pack/dequantize-linear.ts'
import { chooseBlockSize, containerBits } from '../../kernels/pack/matmul-nbits.ts'
import { planeBits } from '../../kernels/pack/planes.ts'
import { groupsOf } from '../../kernels/qparams.ts'
<<<<<<< HEAD
=======
import type { ActivationQuantizer } from '../../kernels/tokens.ts'
>>>>>>> wt-head
import type { Linear } from '../find/linears.ts'
import type { ExportOptions } from '../terms/options.ts'
import type { QuantScheme } from '../terms/scheme.ts'
import { type EmbeddingJob, isInPlanes } from './plan-embeddings.ts'

<<<<<<< HEAD
/**
 * Bytes MatMulNBits stores for a weight: codes, and a scale and a zero point for each of its blocks; or those of planes, or of
 * DequantizeLinear.
=======
/** Any: weights in planes do not depend on the activations they are multiplied with. */
const EIGHT_BITS: ActivationQuantizer = { bits: 8, symmetric: false }

/**
 * Bytes MatMulNBits stores for a weight: codes, a scale for each of its blocks, and a zero point unless they are symmetric; or those of
 * planes.
>>>>>>> wt-head
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
<<<<<<< HEAD
  return outFeatures * ((blocks * blockSize * bits) / 8 + blocks * scale + Math.ceil((blocks * bits) / 8))
=======
  const scale = weight.tensor!.dtype === 'float16' ? 2 : 4
  const zeroPoints = weights.symmetric ? 0 : Math.ceil((blocks * bits) / 8)
  return outFeatures * ((blocks * blockSize * bits) / 8 + blocks * scale + zeroPoints)
}

/** Bytes of a weight outside the blocks. Rows of a table that no lm_head shares have no padding behind their last block. */
export function outerBytes(job: EmbeddingJob, options: Pick<ExportOptions, 'format'>): number {
  const { quantizer, lmHead, embedding } = job
  const { bits, symmetric } = quantizer
  const linear = (lmHead ?? embedding)!
  const { inFeatures, outFeatures } = linear
  if (isInPlanes(job, options))
    return packedBytes(linear, { weights: { bits, symmetric, group: undefined }, activations: EIGHT_BITS })
  const stored = packedBytes(linear, { weights: quantizer, activations: undefined })
  const { size, count } = groupsOf(inFeatures, quantizer.group)
  const padding = embedding ? Math.max(count * size, quantizer.group) - inFeatures : 0
  return stored - (outFeatures * padding * bits) / 8
}

/** Bytes of the clip ratios of a weight outside the blocks, while it waits for the end of the run. */
export const clipBytes = ({ quantizer, lmHead, embedding }: EmbeddingJob): number => {
  const { inFeatures, outFeatures } = (lmHead ?? embedding)!
  return 2 * 4 * outFeatures * groupsOf(inFeatures, quantizer.group).count
>>>>>>> wt-head
}
