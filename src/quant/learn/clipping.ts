/**
 * @file Learnable weight clipping (LWC, arXiv 2308.13137 section 3.2): the range a group of weights is quantized over is
 * shrunk by two learned ratios. The same functions write the training program and the folding program.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { emitFakeQuantize, type EmittedRange, emitWeightRange, type FakeQuantized } from '../../kernels/weights.ts'
import type { Linear } from '../find/linears.ts'
import { type BlockPlan, transformedLinears } from '../plan/block-plan.ts'
import type { Weights } from './emit-block.ts'
import type { Parameter } from './parameters.ts'

/** sigmoid(4) = 0.982: clipping starts just inside the full range, where the sigmoid has a gradient (reference: init_value). */
const INITIAL_CLIP_LOGIT = 4

/** sigmoid(20) is 1 in float32: the whole range, which is rounding to nearest, and no gradient. */
const UNCLIPPED_LOGIT = 20

const logitName = (linear: Linear, index: number, side: 'max' | 'min'): string => `${index}:${linear.name}:${side}`

/** Clip logits of every linear of the block: max and min, [groups, N] each. Those of `held` linears stay without clipping. */
export function clipParameters(
  { quantizers }: BlockPlan,
  learningRate: number,
  held: ReadonlySet<Linear> = new Set(),
): Parameter[] {
  return [...quantizers].flatMap(([linear, { group }], i) =>
    (['max', 'min'] as const).map(side => ({
      name: logitName(linear, i, side),
      shape: [Math.ceil(linear.inFeatures / Math.min(group, linear.inFeatures)), linear.outFeatures],
      initial: held.has(linear) ? UNCLIPPED_LOGIT : INITIAL_CLIP_LOGIT,
      learningRate: held.has(linear) ? 0 : learningRate,
    })),
  )
}

/**
 * Least and greatest weight of every group, for the linears whose weight nothing transforms: there they depend on the stored weight
 * alone and are written once, outside the loop.
 */
export function emitRanges(g: Builder, plan: BlockPlan, weights: Weights): ReadonlyMap<Linear, EmittedRange> {
  const transformed = transformedLinears(plan)
  return new Map(
    [...plan.quantizers].flatMap(([linear, { group }]) =>
      transformed.has(linear) ? [] : [[linear, emitWeightRange(g, weights.get(linear)!, group)] as const],
    ),
  )
}

/**
 * Quantizes and dequantizes every weight of the block over its clipped range: clipRatio = sigmoid(logit), for max and
 * min separately. Linears without logits among the `parameters` use their whole range, which is round-to-nearest.
 * @param weights as transformed; @param ranges of those that are not, from `emitRanges`.
 */
export function emitClipped(
  g: Builder,
  plan: BlockPlan,
  weights: Weights,
  ranges: ReadonlyMap<Linear, EmittedRange>,
  parameters: ReadonlyMap<string, Value>,
): ReadonlyMap<Linear, FakeQuantized> {
  return new Map(
    [...plan.quantizers].map(([linear, quantizer], i) => {
      const weight = weights.get(linear)!
      const logits = {
        max: parameters.get(logitName(linear, i, 'max')),
        min: parameters.get(logitName(linear, i, 'min')),
      }
      const ratios = logits.max &&
        logits.min && { max: g.op('Sigmoid', [logits.max]), min: g.op('Sigmoid', [logits.min]) }
      const range = ranges.get(linear) ?? emitWeightRange(g, weight, quantizer.group)
      return [linear, emitFakeQuantize(g, weight, range, quantizer, ratios)]
    }),
  )
}
