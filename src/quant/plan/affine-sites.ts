/** @file Sites whose value is multiplied by a learned matrix before it is quantized (FlatQuant, arXiv 2410.09426). */

import { type Factors, nearestFactors } from '../../kernels/kronecker.ts'
import type { Refused } from '../../graph/refusal.ts'
import { staticShape } from '../../graph/shape.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from './activation-sites.ts'
import type { BlockPlan } from './block-plan.ts'
import { names, shortName } from './mappings/candidates.ts'

/** Largest factor that is learned: the product costs n1 + n2 multiplications for each activation, and n1^2 + n2^2 numbers. */
const MOST = 512

/** Site with a matrix. */
export interface AffineSite extends ActivationSite {
  readonly factors: Factors
}

/** Sites of a plan that have a matrix, in order. */
export const affineSites = ({ activationSites }: Pick<BlockPlan, 'activationSites'>): AffineSite[] =>
  activationSites.filter((site): site is AffineSite => site.factors !== undefined)

/** Linears that read a site. */
export function linearsReading(linears: readonly Linear[], { readers }: ActivationSite): Linear[] {
  const nodes = new Set(readers.map(({ node }) => node))
  return linears.filter(({ node }) => nodes.has(node))
}

/** Name of a site's matrix for people: "matrix -> q_proj, k_proj, v_proj". */
export const nameOf = (site: ActivationSite, linears: readonly Linear[]): string =>
  `matrix -> ${names(linearsReading(linears, site).map(({ name }) => shortName(name)))}`

/**
 * Gives a matrix to every site that linears alone read: the inverse can be folded into their weights. Queries, keys and values have none.
 * @returns `refused`: sites whose number of channels has no factors near each other.
 */
export function withMatrices(
  sites: readonly ActivationSite[],
  linears: readonly Linear[],
): { readonly sites: readonly ActivationSite[]; readonly refused: readonly Refused[] } {
  const refused: Refused[] = []
  const made = sites.map(site => {
    if (site.by !== 'graph' || site.user !== undefined) return site
    const channels = staticShape(site.value).at(-1)!
    const factors = nearestFactors(channels)
    if (factors[1] <= MOST) return { ...site, factors }
    refused.push({ at: nameOf(site, linears), reason: `${channels} channels are ${factors.join(' x ')} at best` })
    return site
  })
  return { sites: made, refused }
}
