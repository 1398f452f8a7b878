/** @file Sizes of quantized weights. Knows layouts, reads nothing. */

import { dequantizeBits } from '../../kernels/pack/dequantize-linear.ts'
import type { Layout } from '../../kernels/pack/layouts.ts'
import { chooseBlockSize, containerBits } from '../../kernels/pack/matmul-nbits.ts'
import { planeBits } from '../../kernels/pack/planes.ts'
import { groupsOf } from '../../kernels/qparams.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { Linear } from '../find/linears.ts'
import type { ExportOptions, Format } from '../terms/options.ts'
import type { QuantScheme, WeightScheme } from '../terms/scheme.ts'
import { type EmbeddingJob, outerLayout } from './plan-embeddings.ts'

/** Bytes of a weight in each layout: codes, scales, and zero points unless it is symmetric. */
const SIZES: Readonly<Record<Layout, (linear: Linear, weights: WeightScheme) => number>> = {
  dequantize({ inFeatures, outFeatures, weight }, { bits: asked, group, symmetric }) {
    const bits = dequantizeBits(asked)
    const { count } = groupsOf(inFeatures, group ?? inFeatures)
    return outFeatures * ((inFeatures * bits) / 8 + count * (scaleBytes(weight.tensor!) + (symmetric ? 0 : bits / 8)))
  },
  // A float32 scale, a sum of codes and a zero point for each output.
  planes: ({ inFeatures, outFeatures }, { bits }) => outFeatures * ((inFeatures * planeBits(bits)) / 8 + 4 + 4 + 1),
  nbits({ inFeatures, outFeatures, weight }, weights) {
    const bits = containerBits(weights.bits)
    const blockSize = chooseBlockSize(inFeatures, weights.group ?? inFeatures, weights.bits)
    const blocks = Math.ceil(inFeatures / blockSize)
    const zeroPoints = weights.symmetric ? 0 : Math.ceil((blocks * bits) / 8)
    return outFeatures * ((blocks * blockSize * bits) / 8 + blocks * scaleBytes(weight.tensor!) + zeroPoints)
  },
}

const scaleBytes = ({ dtype }: Tensor): number => (dtype === 'float16' ? 2 : 4)

/** Bytes stored for a weight of a block. */
export function packedBytes(linear: Linear, { weights, activations }: QuantScheme, format?: Format): number {
  const integer = activations && weights.group === undefined
  return SIZES[format === 'qdq' ? 'dequantize' : integer ? 'planes' : 'nbits'](linear, weights)
}

/** Bytes of a weight outside the blocks. Rows of a table that no lm_head shares have no padding behind their last block. */
export function outerBytes(job: EmbeddingJob, options: Pick<ExportOptions, 'format'>): number {
  const { quantizer, lmHead, embedding } = job
  const linear = (lmHead ?? embedding)!
  const { inFeatures, outFeatures } = linear
  const stored = SIZES[outerLayout(job, options)](linear, quantizer)
  const { size, count } = groupsOf(inFeatures, quantizer.group)
  const padding = embedding ? Math.max(count * size, quantizer.group) - inFeatures : 0
  return stored - (outFeatures * padding * quantizer.bits) / 8
}

/** Bytes of the clip ratios of a weight outside the blocks, while it waits for the end of the run. */
export const clipBytes = ({ quantizer, lmHead, embedding }: EmbeddingJob): number => {
  const { inFeatures, outFeatures } = (lmHead ?? embedding)!
  return 2 * 4 * outFeatures * groupsOf(inFeatures, quantizer.group).count
}
