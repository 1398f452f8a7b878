/** @file A linear as the output will hold it, from its plan: for predictions before anything is packed. */

import type { Layout } from '../../kernels/pack/layouts.ts'
import { chooseBlockSize, containerBits } from '../../kernels/pack/matmul-nbits.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import type { Linear } from '../find/linears.ts'
import type { NamedProduct, StoredProduct } from '../terms/kernel.ts'
import type { ResolvedOptions } from '../terms/options.ts'
import { type BlockPlan, layoutOf } from './block-plan.ts'
import { isFused } from './fused-experts.ts'
import { type EmbeddingPlan, isStandardLookup, outerLayout } from './plan-embeddings.ts'

/** Options that decide the form of a product. */
type Form = Pick<ResolvedOptions, 'scheme' | 'format' | 'lookup' | 'accuracyLevel'>

const floatProduct = ({ name, origin, inFeatures, outFeatures }: Linear): NamedProduct => ({
  name,
  op: 'float weight',
  K: inFeatures,
  N: outFeatures,
  bits: 8,
  block: undefined,
  zeroPoints: 'none',
  level: 0,
  dtype: floatTypeOf(origin.inputs[1]!),
  bias: false,
})

function quantizedProduct(
  linear: Linear,
  { bits, group, symmetric, scaleDtype }: WeightQuantizer,
  op: StoredProduct['op'],
  { block, level }: Pick<StoredProduct, 'block' | 'level'>,
): NamedProduct {
  const { name, inFeatures, outFeatures } = linear
  return {
    name,
    op,
    K: inFeatures,
    N: outFeatures,
    bits: op === 'MatMulIntegerToFloat' ? 8 : containerBits(bits),
    block: op === 'qdq' ? Math.min(group, inFeatures) : block,
    zeroPoints: symmetric ? 'none' : 'integer',
    level,
    dtype: scaleDtype,
    bias: false,
  }
}

/** The products of a block. */
export function plannedProducts(plan: BlockPlan, { scheme, format, accuracyLevel }: Form): NamedProduct[] {
  return plan.block.linears.map(linear => {
    const quantizer = plan.quantizers.get(linear)
    if (!quantizer) return floatProduct(linear)
    const block = plan.blockSizes.get(linear) ?? chooseBlockSize(linear.inFeatures, quantizer.group, quantizer.bits)
    if (isFused(linear)) return quantizedProduct(linear, quantizer, 'QMoE', { block, level: 0 })
    const layout = layoutOf(plan, linear, quantizer)
    if (layout === 'dequantize') return quantizedProduct(linear, quantizer, 'qdq', { block, level: 0 })
    const inPlanes = layout === 'planes'
    // The portable form dequantizes the weight when the model is loaded.
    if (inPlanes && format === 'portable') return floatProduct(linear)
    if (inPlanes) return quantizedProduct(linear, quantizer, 'MatMulIntegerToFloat', { block: undefined, level: 0 })
    return quantizedProduct(linear, quantizer, 'MatMulNBits', { block, level: scheme.activations ? 0 : accuracyLevel })
  })
}

/** lm_head and embeddings, those that are quantized. A lookup by standard operators needs no kernel of its own. */
export function plannedOuter({ jobs }: EmbeddingPlan, options: Form): NamedProduct[] {
  return jobs.flatMap(job => {
    const { quantizer, lmHead, embedding } = job
    const { group: block } = quantizer
    const table = embedding && !isStandardLookup(options) ? [embedding] : []
    return [
      ...table.map(each => quantizedProduct(each, quantizer, 'GatherBlockQuantized', { block, level: 0 })),
      ...(lmHead ? [plannedHead(lmHead, quantizer, outerLayout(job, options), options)] : []),
    ]
  })
}

function plannedHead(
  lmHead: Linear,
  quantizer: WeightQuantizer,
  layout: Layout,
  { accuracyLevel: level }: Form,
): NamedProduct {
  // Planes of an lm_head are dequantized when the model is loaded: its input stays float.
  if (layout === 'planes') return floatProduct(lmHead)
  const block = quantizer.group
  return layout === 'dequantize'
    ? quantizedProduct(lmHead, quantizer, 'qdq', { block, level: 0 })
    : quantizedProduct(lmHead, quantizer, 'MatMulNBits', { block, level })
}
