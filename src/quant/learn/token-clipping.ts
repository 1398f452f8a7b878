/**
 * @file Learnable clipping of activations that are quantized per token: two ratios for each site shrink the range of every token
 * (FlatQuant, arXiv 2410.09426 section 3.2).
 */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { SiteConstants } from '../plan/site-constants.ts'
import type { BlockConstants, Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'

const INITIAL_LOGIT = Number(process.env.OQ_LOGIT ?? 4)

const tokenSites = ({ activationSites }: Pick<BlockPlan, 'activationSites'>): ActivationSite[] =>
  activationSites.filter(({ by, quantizer }) => by === 'graph' && quantizer.kind !== 'static')

const logitName = ({ value }: ActivationSite, index: number, side: 'min' | 'max'): string =>
  `${index}:${value.name}:token_${side}`

function parameters(plan: BlockPlan, { method }: LearningStart): Parameter[] {
  return tokenSites(plan).flatMap((site, i) =>
    (['max', 'min'] as const).map(side => ({
      name: logitName(site, i, side),
      shape: [],
      initial: INITIAL_LOGIT,
      learningRate: method.learningRate * Number(process.env.OQ_CLIPRATE ?? 1),
    })),
  )
}

function apply(g: Builder, plan: BlockPlan, constants: BlockConstants, values: ReadonlyMap<string, Value>): BlockConstants {
  const siteConstants = new Map<ActivationSite, SiteConstants<Value>>(constants.siteConstants)
  tokenSites(plan).forEach((site, i) => {
    const max = values.get(logitName(site, i, 'max'))
    const min = values.get(logitName(site, i, 'min'))
    if (!max || !min) return
    const ratios = { maxRatio: g.op('Sigmoid', [max]), minRatio: g.op('Sigmoid', [min]) }
    siteConstants.set(site, { ...siteConstants.get(site), ...ratios })
  })
  return { ...constants, siteConstants }
}

export const tokenClipping: Learnable = { name: 'token ranges', enabled: ({ scheme }) => Boolean(process.env.OQ_CLIP) && scheme.activations !== undefined, parameters, apply }
