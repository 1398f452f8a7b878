/**
 * @file Learnable weight clipping (LWC, arXiv 2308.13137 section 3.2): the range a group of weights is quantized over is
 * shrunk by two learned ratios. The same functions write the training program and the folding program.
 */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { emitFakeQuantize, emitWeightRange, type EmittedRange, type FakeQuantized } from '../kernels/fake-quantize.ts'
import type { Weights } from './emit-block.ts'
import type { Linear } from './linears.ts'
import type { Parameter } from './parameters.ts'
import type { BlockPlan } from './plan.ts'

/** sigmoid(4) = 0.982: clipping starts just inside the full range, where the sigmoid has a gradient (reference: init_value). */
const INITIAL_CLIP_LOGIT = 4

const logitName = (linear: Linear, index: number, side: 'max' | 'min'): string => `${index}:${linear.name}:${side}`

/** Clip logits of every linear of the block: max and min, [groups, N] each. */
export function clipParameters({ quantizers }: BlockPlan, learningRate: number): Parameter[] {
  return [...quantizers].flatMap(([linear, { group }], i) =>
    (['max', 'min'] as const).map(side => ({
      name: logitName(linear, i, side),
      shape: [Math.ceil(linear.inFeatures / Math.min(group, linear.inFeatures)), linear.outFeatures],
      initial: INITIAL_CLIP_LOGIT,
      learningRate,
    })),
  )
}

/** Least and greatest weight of every group. They depend on the weights alone: written once, outside the loop. */
export function emitRanges(g: Builder, plan: BlockPlan, weights: Weights): ReadonlyMap<Linear, EmittedRange> {
  return new Map(
    [...plan.quantizers].map(([linear, { group }]) => [linear, emitWeightRange(g, weights.get(linear)!, group)]),
  )
}

/**
 * Quantizes and dequantizes every weight of the block over its clipped range: clipRatio = sigmoid(logit), for max and
 * min separately. Without `parameters` the whole range is used, which is round-to-nearest.
 */
export function emitClipped(
  g: Builder,
  plan: BlockPlan,
  weights: Weights,
  ranges: ReadonlyMap<Linear, EmittedRange>,
  parameters: ReadonlyMap<string, Value> | undefined,
): ReadonlyMap<Linear, FakeQuantized> {
  return new Map(
    [...plan.quantizers].map(([linear, quantizer], i) => {
      const ratio = (side: 'max' | 'min') => g.op('Sigmoid', [parameters?.get(logitName(linear, i, side))])
      const ratios = parameters && { max: ratio('max'), min: ratio('min') }
      return [linear, emitFakeQuantize(g, weights.get(linear)!, ranges.get(linear)!, quantizer, ratios)]
    }),
  )
}
