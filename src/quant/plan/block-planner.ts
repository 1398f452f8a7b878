/** @file Plans of the blocks of a run, from its options and the analysis of the model. */

import type { Block } from '../find/blocks.ts'
import type { OtherBranch } from '../find/other-branch.ts'
import type { Method } from '../terms/options.ts'
import type { BlockPlan, PlanOptions } from './block-plan.ts'
import { planBranches } from './plan-branches.ts'
import { weightSchemeOf } from './weight-rules.ts'

/** Facts about the user's graph that plans need; an Analysis has them. */
export interface UserGraph extends Pick<PlanOptions, 'values' | 'leaving'> {
  readonly otherBranch?: OtherBranch | undefined
}

/** Function that plans one block after the other. */
export function blockPlanner(method: Method, { values, leaving, otherBranch }: UserGraph): (block: Block) => BlockPlan {
  const { scheme, format, accuracyLevel, selectMappings, keepCache } = method
  const options: PlanOptions = {
    scheme,
    format,
    accuracyLevel,
    let: method.let,
    gains: method.learnGains,
    values,
    leaving: leaving && keepCache ? { ...leaving, mayChange: new Set() } : leaving,
    weightSchemeOf: weightSchemeOf(scheme.weights, method),
    select: selectMappings,
  }
  return block => planBranches(block, options, otherBranch)
}
