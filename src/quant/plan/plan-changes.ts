/** @file Constants of a block that learning may change besides the codes of weights: mappings, gains of norms, and the places of both. */

import type { Value } from '../../graph/ir.ts'
import { type Refused, separate } from '../../graph/refusal.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan, ChangedSite, NormConstant, PlanOptions } from './block-plan.ts'
import { isFused } from './fused-experts.ts'
import { linearsOf, type Mapping, rowsOf } from './mappings/mapping.ts'
import { biasSite, findMappings } from './mappings/mappings.ts'
import { sameSite, type Site } from './site.ts'

type Changes = Pick<BlockPlan, 'mappings' | 'skippedMappings' | 'biases' | 'gains' | 'changedSites' | 'addedBiases'>

/** The same constant in the user's graph; undefined when a fused node computes it from others. */
function userSite(site: Site, values: ReadonlyMap<Value, Value>): ChangedSite | undefined {
  const node = site.node.origin
  const constant = site.node.inputs[site.input]!
  const input = node?.inputs.findIndex(value => value && values.get(value) === constant) ?? -1
  if (!node || input < 0) return undefined
  const { dtype } = node.inputs[input]!
  return { site, node, input, dtype: dtype ?? 'float32' }
}

/** All places whose constants a mapping changes. */
function sitesOf(mapping: Mapping, biases: ReadonlyMap<Linear, Site>): Site[] {
  const { divided, multiplied, shift } = mapping
  const vectors = [...divided, ...multiplied].flatMap(end => (end.kind === 'vector' ? [end.site] : []))
  const readers = shift ? rowsOf(mapping).map(({ linear }) => biases.get(linear)) : []
  return [...vectors, ...readers.filter(site => site !== undefined)]
}

/** Places without those that came before. */
const unique = (sites: readonly ChangedSite[]): ChangedSite[] =>
  sites.filter(({ site }, i) => sites.findIndex(other => sameSite(other.site, site)) === i)

/** A mapping as it is made, and the places it changes; refused where one of them cannot be changed. */
function planMapping(
  mapping: Mapping,
  { scheme, values }: PlanOptions,
  quantizers: ReadonlyMap<Linear, WeightQuantizer>,
  biases: ReadonlyMap<Linear, Site>,
): { readonly made: Mapping; readonly sites: readonly ChangedSite[] } | Refused {
  const refused = (reason: string): Refused => ({ at: mapping.name, reason })
  const float = linearsOf(mapping).find(linear => !quantizers.has(linear))
  if (float) return refused(`${float.name} stays float`)
  // A shift only moves the middle of a range, which weights alone do not have: it is for quantized activations.
  // Nothing can be added behind a product inside a fused node.
  const canShift = scheme.activations && !rowsOf(mapping).some(({ linear }) => isFused(linear))
  const made = canShift ? mapping : { ...mapping, shift: undefined }
  const sites = sitesOf(made, biases).flatMap(site => userSite(site, values) ?? [])
  if (sites.length < sitesOf(made, biases).length)
    return refused('a constant it changes is not stored as such in the file')
  return { made, sites }
}

/** Gains and biases of the norms that mappings divide, where the file stores them and something behind them is quantized. */
function normConstants(
  mappings: readonly Mapping[],
  { values }: PlanOptions,
  quantizers: ReadonlyMap<Linear, WeightQuantizer>,
): { readonly gain: NormConstant; readonly changed: ChangedSite }[] {
  return mappings.flatMap(mapping => {
    const readers = rowsOf(mapping).map(({ linear }) => linear)
    if (mapping.kind !== 'norm' || !readers.some(linear => quantizers.has(linear))) return []
    return mapping.divided.flatMap(end => {
      const changed = end.kind === 'vector' ? userSite(end.site, values) : undefined
      return changed ? [{ gain: { site: changed.site, readers }, changed }] : []
    })
  })
}

/** Plans what learning changes around the weights of a block. */
export function planChanges(
  block: Block,
  options: PlanOptions,
  quantizers: ReadonlyMap<Linear, WeightQuantizer>,
): Changes {
  const { select = mappings => mappings, let: transformations, gains: hasGains } = options
  const biases = new Map(
    block.linears.flatMap(linear => {
      const site = biasSite(linear, block)
      return site ? [[linear, site] as const] : []
    }),
  )
  const found = transformations || hasGains ? findMappings(block, options.leaving) : { mappings: [], skipped: [] }
  const gains = hasGains ? normConstants(found.mappings, options, quantizers) : []
  const asked = found.mappings.filter(({ kind }) => (transformations === 'norm' ? kind === 'norm' : transformations))
  const { results, refused } = separate(select(asked).map(mapping => planMapping(mapping, options, quantizers, biases)))
  const mappings = results.map(({ made }) => made)
  const shifted = new Set(
    mappings.filter(({ shift }) => shift).flatMap(mapping => rowsOf(mapping).map(({ linear }) => linear)),
  )
  return {
    mappings,
    skippedMappings: [...(transformations ? found.skipped : []), ...refused],
    biases,
    gains: gains.map(({ gain }) => gain),
    changedSites: unique([...results.flatMap(({ sites }) => sites), ...gains.map(({ changed }) => changed)]),
    addedBiases: block.linears.filter(linear => shifted.has(linear) && !biases.has(linear)),
  }
}
