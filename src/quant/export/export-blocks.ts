/** @file Writes finished blocks into the user's graph: quantized linears, transformed gains and biases, quantized queries, keys and values. */

import { internalError } from '../../errors.ts'
import type { Model, Node } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import type { PackedWeight } from '../../kernels/pack/matmul-nbits.ts'
import type { QuantizedBlock } from '../learn/finished-block.ts'
import type { WrittenQuantizer } from '../../kernels/static-range.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import { type BlockPlan, inputSite } from '../plan/block-plan.ts'
import { isFused } from '../plan/fused-experts.ts'
import { hasMatrix, type SiteConstants } from '../plan/site-constants.ts'
import type { ExportOptions } from '../terms/options.ts'
import { exportLinears } from './export-linears.ts'
import { type ExportedExperts, exportExperts } from './qmoe.ts'
import { raiseForQuantize } from './quantize-linear.ts'
import { type QuantizedValue, quantizeValues } from './quantize-values.ts'
import type { WrittenMatrix } from './quantize-rows.ts'
import { replaceConstants } from './replace-constants.ts'

/** Numbers of a finished block, and the plan that says where they go. */
export interface ExportedBlock extends QuantizedBlock {
  readonly plan: BlockPlan
}

/** Writes the finished blocks into the user's graph. */
export function exportBlocks(model: Model, finished: readonly ExportedBlock[], options: ExportOptions): void {
  const sites = finished.flatMap(({ plan }) => plan.activationSites)
  raiseForQuantize(
    model,
    sites.map(({ quantizer }) => quantizer),
    options.format,
  )
  replaceConstants(
    model,
    finished.flatMap(({ plan, constants }) =>
      constants.map(({ site, data }) => ({
        ...plan.changedSites[site]!,
        data,
        otherBranch: plan.otherBranch?.sites[site],
      })),
    ),
  )
  quantizeValues(model, finished.flatMap(quantizedValues), options)
  const linears = finished.flatMap(block =>
    block.linears.flatMap(({ linear, packed, bias }, j) => {
      if (!packed || isFused(linear)) return []
      const { node, origin, inFeatures, outFeatures } = linear
      const { otherBranch } = block.plan
      const site = inputSite(block.plan, linear)
      return [
        {
          origin,
          otherBranch: otherBranch?.linears[j],
          packed,
          inFeatures,
          outFeatures,
          activation: site && writtenQuantizer(block, site),
          matrix: site && writtenMatrix(block, site),
          addedBias: bias,
          rank: staticShape(node.inputs[0]!).length,
        },
      ]
    }),
  )
  exportLinears(model, linears, options)
  exportExperts(model, finished.flatMap(fusedExperts))
}

/** Fused nodes with the weights of all their experts, in the block's order: fc1 and fc2 of each expert in turn. */
function fusedExperts({ linears }: ExportedBlock): ExportedExperts[] {
  const nodes = new Map<Node, PackedWeight[]>()
  for (const { linear, packed } of linears)
    if (packed && 'b' in packed && isFused(linear))
      nodes.set(linear.origin, [...(nodes.get(linear.origin) ?? []), packed])
  return [...nodes].map(([origin, weights]) => ({
    origin,
    fc1: weights.filter((_, i) => i % 2 === 0),
    fc2: weights.filter((_, i) => i % 2 === 1),
  }))
}

/** Learned numbers of a site. */
function constantsOf({ plan, activations }: ExportedBlock, site: ActivationSite): SiteConstants<Float32Array> {
  return activations.find(each => plan.activationSites[each.site] === site)?.constants ?? {}
}

/** Quantizer of a site, with the constants that it ended with. */
function writtenQuantizer(block: ExportedBlock, site: ActivationSite): WrittenQuantizer {
  const { quantizer } = site
  const { scale, zeroPoint, minRatio, maxRatio } = constantsOf(block, site)
  if (quantizer.kind !== 'static')
    return minRatio && maxRatio ? { ...quantizer, ratios: { min: minRatio[0]!, max: maxRatio[0]! } } : quantizer
  if (!scale || !zeroPoint) throw internalError(`the range of "${site.value.name}" is not known`)
  return { ...quantizer, scale: scale[0]!, zeroPoint: zeroPoint[0]! }
}

/** Matrix of a site, if it has one. */
function writtenMatrix(block: ExportedBlock, site: ActivationSite): WrittenMatrix | undefined {
  const constants = constantsOf(block, site)
  const { left, right } = constants
  if (!hasMatrix(constants)) return undefined
  return site.factors && left && right && { name: site.value.name, left, right, factors: site.factors }
}

/** Queries, keys and values: in merged files of both branches, and of what one of them hands on to the other. */
function quantizedValues(block: ExportedBlock): QuantizedValue[] {
  const { activationSites, otherBranch } = block.plan
  const sites = activationSites.filter(({ user }) => user !== undefined)
  return sites.flatMap((site, j) => {
    const { user, group, value } = site
    const shape = staticShape(value)
    const quantizer = writtenQuantizer(block, site)
    const how = { group, channels: shape.at(-1)!, rank: shape.length, quantizer }
    if (!otherBranch) return [{ ...how, value: user! }]
    return [user!, otherBranch.values[j]!].map(each => ({ ...how, value: each, outputs: true }))
  })
}
