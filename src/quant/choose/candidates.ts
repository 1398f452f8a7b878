/** @file Candidates of each weight: schemes that the plan of its block can hold, and their sizes. Reads no weights. */

import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Analysis } from '../find/analysis.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import { blockPlanner } from '../plan/block-planner.ts'
import { nameMatcher } from '../plan/patterns.ts'
import { packedBytes } from '../plan/size.ts'
import type { Choosing, Method } from '../terms/options.ts'

/** One way to quantize a linear. */
export interface PlannedCandidate {
  readonly quantizer: WeightQuantizer
  readonly sizeBytes: number
}

/** A linear with its candidates, from the fewest bits up. */
export interface CandidateLinear {
  readonly linear: Linear
  readonly candidates: readonly PlannedCandidate[]
}

/** True for two quantizers that give the same codes. */
const isSame = (a: WeightQuantizer, b: WeightQuantizer, { inFeatures }: Linear): boolean =>
  a.bits === b.bits && Math.min(a.group, inFeatures) === Math.min(b.group, inFeatures) && a.symmetric === b.symmetric

/**
 * Candidates of the linears of a block. A linear with an override of the user has one; one that stays float whatever is chosen is left out.
 */
export function candidatesOf(
  block: Block,
  method: Method,
  { candidates: schemes }: Pick<Choosing, 'candidates'>,
  analysis: Analysis,
): CandidateLinear[] {
  const { scheme, format, overrides = [] } = method
  const usual = blockPlanner(method, analysis)(block)
  const plans = schemes.map(weights => blockPlanner({ ...method, scheme: { ...scheme, weights } }, analysis)(block))
  const pinned = overrides.map(({ pattern }) => nameMatcher(pattern))
  return block.linears.flatMap(linear => {
    const own = pinned.some(matches => matches(linear.name)) ? [usual] : plans
    const candidates: PlannedCandidate[] = []
    for (const { quantizers, blockSizes } of own) {
      const quantizer = quantizers.get(linear)
      if (!quantizer || candidates.some(each => isSame(each.quantizer, quantizer, linear))) continue
      const sizeBytes = Math.ceil(
        packedBytes(linear, { ...scheme, weights: quantizer }, format, blockSizes.get(linear)),
      )
      candidates.push({ quantizer, sizeBytes })
    }
    return candidates.length === 0 ? [] : [{ linear, candidates }]
  })
}
