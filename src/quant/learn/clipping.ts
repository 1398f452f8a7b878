/**
 * @file Learnable weight clipping (LWC, arXiv 2308.13137 section 3.2): two learned ratios shrink the range that a group of weights is
 * quantized over.
 */

import { groupsOf } from '../../kernels/qparams.ts'
import type { EmittedRatios } from '../../kernels/weights.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { ROUNDINGS } from '../terms/roundings.ts'
import type { Learnable, LearningStart } from './learnable.ts'
import type { Learned } from './learned.ts'
import type { Parameter } from './parameters.ts'
import { emitShares, type End, ENDS, INITIAL_LOGIT, WHOLE_LOGIT } from './range-ratios.ts'

/** Logits of ratios, at most `most`. */
const logitsOf = (ratios: Float32Array, most: number): Float32Array =>
  ratios.map(ratio => Math.min(most, Math.log(ratio / (1 - ratio))))

const logitName = (linear: Linear, index: number, side: End): string => `${index}:${linear.name}:${side}`

/**
 * Clip logits of every quantized linear: max and min, [groups, N] each. They start where a search found the least error, or at the whole
 * range. Frozen linears keep their whole range.
 */
function parameters({ quantizers }: BlockPlan, { method, frozen, clips }: LearningStart): Parameter[] {
  return [...quantizers].flatMap(([linear, { group }], i) => {
    const isLearned = method.lwc && !frozen.has(linear)
    const most = isLearned ? INITIAL_LOGIT : WHOLE_LOGIT
    const found = clips?.get(linear)
    return ENDS.map(side => ({
      name: logitName(linear, i, side),
      shape: [groupsOf(linear.inFeatures, group).count, linear.outFeatures],
      initial: found ? () => logitsOf(found[side], most) : most,
      learningRate: isLearned ? method.learningRate : 0,
    }))
  })
}

/** Clip logits of a linear, and the same with ranges that are wider. */
export interface ClipLogits {
  readonly name: string
  /** Logits for ranges that are a share of the way from the present ones to the whole ones. */
  readonly widened: (share: number) => Float32Array
}

/** Clip logits among the parameters of a block; none where nothing is clipped. @param index of the linear among those with a quantizer. */
export function clipLogitsOf({ vector, parameters }: Learned, linear: Linear, index: number): ClipLogits[] {
  return ENDS.flatMap(side => {
    const name = logitName(linear, index, side)
    if (!vector.has(name)) return []
    const logits = Float32Array.from(vector.view(parameters, name))
    const widened = (share: number) => {
      if (share === 0) return logits
      return logits.map(logit => {
        const ratio = 1 / (1 + Math.exp(-logit))
        return Math.min(WHOLE_LOGIT, Math.log((ratio + (1 - ratio) * share) / ((1 - ratio) * (1 - share))))
      })
    }
    return [{ name, widened }]
  })
}

/** Shares of whole ranges that a linear is quantized over, of both ends; empty where nothing is clipped. @param index as above. */
export function clipRatiosOf(learned: Learned, linear: Linear, index: number): Float32Array {
  const logits = clipLogitsOf(learned, linear, index).flatMap(({ widened }) => [...widened(0)])
  return Float32Array.from(logits, logit => 1 / (1 + Math.exp(-logit)))
}

/** clipRatio = sigmoid(logit), for max and min separately. */
const apply: Learnable['apply'] = (g, plan, constants, values) => {
  const clipRatios = new Map<Linear, EmittedRatios>(constants.clipRatios)
  ;[...plan.quantizers.keys()].forEach((linear, i) => {
    const shares = emitShares(g, end => values.get(logitName(linear, i, end)))
    if (shares) clipRatios.set(linear, shares)
  })
  return { ...constants, clipRatios }
}

export const clipping: Learnable = {
  name: 'lwc',
  enabled: method => method.lwc || ROUNDINGS[method.rounding].ranges === 'weighted',
  learned: method => method.lwc,
  parameters,
  apply,
}
