/** @file Plan of one block: quantizers and activation sites, from the block and the scheme. plan-changes.ts adds what else learning may change. */

import { floatTypeOf } from '../../graph/float-type.ts'
import { hasNBitsKernel } from '../../kernels/pack/matmul-nbits.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import { findActivationSites, kernelSites } from './activation-sites.ts'
import { withMatrices } from './affine-sites.ts'
import type { BlockPlan, PlanOptions } from './block-plan.ts'
import { isFused, planFused } from './fused-experts.ts'
import { planChanges } from './plan-changes.ts'
import type { WeightSchemeOf } from './weight-rules.ts'

/** Scales are stored in the type that the product is computed in: that of the weight where it is read, perhaps behind a Cast. */
export const scaleDtypeOf = ({ origin }: Linear): WeightQuantizer['scaleDtype'] =>
  floatTypeOf(origin.inputs[1]!) === 'float16' ? 'float16' : 'float32'

function weightQuantizers(
  { linears }: Block,
  { scheme: { activations }, format }: PlanOptions,
  schemeOf: WeightSchemeOf,
): Map<Linear, WeightQuantizer> {
  return new Map(
    linears.flatMap((linear): [Linear, WeightQuantizer][] => {
      const weights = schemeOf(linear)
      if (!weights) return []
      const { bits, group, symmetric } = weights
      // Products of quantized activations are computed in float32, whatever the model's type is. MatMulNBits gets its scales through a Cast.
      const inFloat32 = activations && (group === undefined || format === 'qdq')
      const scaleDtype = inFloat32 ? 'float32' : scaleDtypeOf(linear)
      // TensorRT and WebNN take no negative scales of DequantizeLinear.
      const signs = format === 'qdq' ? { positiveScale: true } : {}
      return [[linear, { bits, group: group ?? linear.inFeatures, symmetric, scaleDtype, ...signs }]]
    }),
  )
}

/** Plans a block. */
export function planBlock(block: Block, options: PlanOptions): BlockPlan {
  const { scheme, format = 'integer', values, weightSchemeOf = () => scheme.weights } = options
  const wanted = weightQuantizers(block, options, weightSchemeOf)
  const fused = planFused(block.linears, wanted)
  const quantizers = new Map([...wanted].filter(([linear]) => !fused.float.has(linear)))
  // A block that stays float altogether reads float activations, in its attention as well.
  const products = new Map([...quantizers].filter(([linear]) => !isFused(linear)))
  const attention =
    scheme.activations && quantizers.size > 0
      ? findActivationSites({ ...block, linears: [...products.keys()] }, scheme.activations, values)
      : undefined
  const inKernels = !scheme.activations && options.accuracyLevel === 4 ? kernelSites(products) : []
  const sites = attention?.sites ?? inKernels
  const affine = options.let === 'affine' ? withMatrices(sites, block.linears) : { sites, refused: [] }
  return {
    block,
    format,
    quantizers,
    blockSizes: fused.blockSizes,
    unquantizable: new Set([...fused.float].filter(linear => wanted.has(linear))),
    activationSites: affine.sites,
    ...planChanges(block, options, quantizers),
    notes: [
      ...(attention?.refused ? [`${attention.refused.at} are not quantized: ${attention.refused.reason}`] : []),
      ...affine.refused.map(({ at, reason }) => `no ${at}: ${reason}`),
      ...fused.notes,
      ...(scheme.activations && fused.blockSizes.size > 0
        ? ['experts inside MoE nodes read float activations: QMoE quantizes weights only']
        : []),
      ...typeNotes([...quantizers.keys()]),
      ...(format === 'qdq' ? dequantizeNotes([...quantizers]) : []),
    ],
  }
}

/** Notes about the QDQ form: how onnxruntime runs it, and what takes more room than in MatMulNBits. */
function dequantizeNotes(quantizers: readonly (readonly [Linear, WeightQuantizer])[]): string[] {
  const own = quantizers.filter(([linear]) => !isFused(linear))
  return [
    ...(own.length > 0 ? [LEVEL_4_NOTE] : []),
    ...(own.some(([, { bits }]) => bits === 2)
      ? ['codes of 2 bits are stored in 4: opset 21 has no smaller type']
      : []),
    ...(own.length < quantizers.length
      ? ['experts inside MoE nodes become QMoE, which reads no DequantizeLinear']
      : []),
  ]
}

const LEVEL_4_NOTE =
  'onnxruntime on CPUs rounds the inputs of these linears to 8 bits, unless its session option ' +
  'session.qdq_matmulnbits_accuracy_level is 0 (docs/qdq.md)'

/** Notes about types that have no CPU kernel for quantized products. */
function typeNotes(linears: readonly Linear[]): string[] {
  const types = new Set(linears.map(({ origin }) => floatTypeOf(origin.inputs[1]!)))
  return [...types]
    .filter(dtype => !hasNBitsKernel(dtype))
    .map(dtype => `quantized linears compute in float32, between casts from ${dtype} and back to it`)
}
