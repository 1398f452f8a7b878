/**
 * @file Learnable clipping of activations that are quantized per token: two ratios for each site shrink the range of every token
 * (FlatQuant, arXiv 2410.09426, its learnable clipping thresholds).
 */

import type { Value } from '../../graph/ir.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import { linearsReading } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { SiteConstants } from '../plan/site-constants.ts'
import type { Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'
import { emitShares, type End, ENDS, INITIAL_LOGIT, WHOLE_LOGIT } from './range-ratios.ts'

const tokenSites = ({ activationSites }: Pick<BlockPlan, 'activationSites'>): ActivationSite[] =>
  activationSites.filter(({ by, quantizer }) => by === 'graph' && quantizer.kind !== 'static')

const logitName = ({ value }: ActivationSite, index: number, side: End): string =>
  `${index}:${value.name}:token_${side}`

/** Logits of every site, max and min, [] each. Sites that only frozen linears read keep their whole range. */
function parameters(plan: BlockPlan, { method, frozen }: LearningStart): Parameter[] {
  return tokenSites(plan).flatMap((site, i) => {
    const readers = linearsReading(plan.block.linears, site)
    const isFrozen = readers.length > 0 && readers.every(linear => frozen.has(linear))
    return ENDS.map(side => ({
      name: logitName(site, i, side),
      shape: [],
      initial: isFrozen ? WHOLE_LOGIT : INITIAL_LOGIT,
      learningRate: isFrozen ? 0 : method.learningRate,
    }))
  })
}

/** ratio = sigmoid(logit), for max and min separately. */
const apply: Learnable['apply'] = (g, plan, constants, values) => {
  const siteConstants = new Map<ActivationSite, SiteConstants<Value>>(constants.siteConstants)
  tokenSites(plan).forEach((site, i) => {
    const shares = emitShares(g, end => values.get(logitName(site, i, end)))
    if (shares) siteConstants.set(site, { ...siteConstants.get(site), maxRatio: shares.max, minRatio: shares.min })
  })
  return { ...constants, siteConstants }
}

export const tokenClipping: Learnable = {
  name: 'token ranges',
  enabled: ({ scheme, learnRanges }) =>
    learnRanges && scheme.activations !== undefined && scheme.activations.kind !== 'static',
  parameters,
  apply,
}
