/**
 * @file Learnable ranges of activations that are quantized over a fixed range: two bounds for each site. They start as observed, and
 * learning clips or widens them (PACT, arXiv 1805.06085; LSQ+, arXiv 2004.09576).
 */

import type { Extremes } from '../../kernels/extremes.ts'
import type { RangeQuantizer } from '../../kernels/static-range.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import type { Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'

/** Share of the clipping's learning rate that a bound has, in widths of its range. docs/accuracy.md has the measurements. */
const RATE_SHARE = 0.1

/** A site whose range is fixed. */
export interface StaticSite extends ActivationSite {
  readonly quantizer: RangeQuantizer
}

/** Sites of a plan whose range is fixed, in order. */
export const staticSites = ({ activationSites }: Pick<BlockPlan, 'activationSites'>): StaticSite[] =>
  activationSites.filter((site): site is StaticSite => site.quantizer.kind === 'static')

const boundName = ({ value }: ActivationSite, index: number, side: 'min' | 'max'): string =>
  `${index}:${value.name}:range_${side}`

/** Bounds of every site with a fixed range, [] each. The learning rate is a share of the range's width. */
function parameters(plan: BlockPlan, { method, siteRanges }: LearningStart): Parameter[] {
  return staticSites(plan).flatMap((site, i) => {
    const range = () => siteRanges!.get(site)!
    return (['min', 'max'] as const).map(side => ({
      name: boundName(site, i, side),
      shape: [],
      initial: () => Float32Array.of(side === 'min' ? range().lo : range().hi),
      learningRate: method.learnRanges ? () => method.learningRate * RATE_SHARE * (range().hi - range().lo) : 0,
    }))
  })
}

const apply: Learnable['apply'] = (_g, plan, constants, values) => {
  const ranges = new Map<ActivationSite, Extremes>(constants.ranges)
  staticSites(plan).forEach((site, i) => {
    const lo = values.get(boundName(site, i, 'min'))
    const hi = values.get(boundName(site, i, 'max'))
    if (lo && hi) ranges.set(site, { lo, hi })
  })
  return { ...constants, ranges }
}

export const ranges: Learnable = {
  name: 'ranges',
  enabled: ({ scheme }: Method) => scheme.activations?.kind === 'static',
  learned: ({ learnRanges }: Method) => learnRanges,
  always: true,
  parameters,
  apply,
}
