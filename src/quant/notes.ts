/** @file Notes for the user about a run: divergence, rare experts, wide groups, exceptions from the scheme. */

import type { Device } from '../kernels/device.ts'
import { option } from '../option-mark.ts'
import type { BlockPlan } from './plan/block-plan.ts'
import type { BlockReport, FewTokens, SkippedReport } from './terms/report.ts'
import { weightOverrideName, type WeightScheme } from './terms/scheme.ts'

/** "block 3: experts 5, 7 saw fewer than 32 tokens: rounded to nearest". */
export function fewTokensNote(block: number, { experts, needed }: FewTokens): string {
  const which = `${experts.length === 1 ? 'expert' : 'experts'} ${experts.join(', ')}`
  return `block ${block}: ${which} saw fewer than ${needed} tokens: rounded to nearest`
}

/** "block 3", "blocks 3, 4" */
const blockList = (indices: readonly number[]): string =>
  `${indices.length === 1 ? 'block' : 'blocks'} ${indices.join(', ')}`

/** A line for each scheme that overrides gave to some weights. */
export function overrideNotes(plans: readonly BlockPlan[], { bits, group, symmetric }: WeightScheme): string[] {
  const others = new Map<string, number>()
  for (const [{ inFeatures }, quantizer] of plans.flatMap(({ quantizers }) => [...quantizers])) {
    const own = { ...quantizer, group: quantizer.group === inFeatures ? undefined : quantizer.group }
    const usual = { bits, group: group === inFeatures ? undefined : group, symmetric }
    const name = weightOverrideName(own)
    if (name !== weightOverrideName(usual)) others.set(name, (others.get(name) ?? 0) + 1)
  }
  return [...others].map(([name, count]) => `${count} ${count === 1 ? 'weight is' : 'weights are'} ${name}`)
}

/** A line for each group that is wider than some weights: those have one scale per output. */
export function groupNotes(plans: readonly BlockPlan[]): string[] {
  const narrow = new Map<number, Set<number>>()
  for (const [{ inFeatures }, { group }] of plans.flatMap(({ quantizers }) => [...quantizers]))
    if (group > inFeatures) narrow.set(group, (narrow.get(group) ?? new Set<number>()).add(inFeatures))
  return [...narrow].map(
    ([group, inputs]) =>
      `groups of ${group} are wider than inputs of ${[...inputs].join(', ')}: those weights have one scale per output`,
  )
}

/** Lines about learning that diverged or did not help. */
export function learningNotes(finished: readonly { readonly report: BlockReport }[]): string[] {
  const blocks = (which: (report: BlockReport) => boolean) =>
    finished.filter(({ report }) => which(report)).map(({ report }) => report.index)
  const diverged = blocks(({ rollbacks }) => rollbacks !== undefined)
  const useless = blocks(({ kept }) => kept === 'rounded')
  return [
    ...(diverged.length > 0
      ? [`learning diverged in ${blockList(diverged)} and was rolled back: lower ${option('learningRate')}`]
      : []),
    ...(useless.length > 0
      ? [
          `learning did not help ${blockList(useless)}, rounded to nearest: other ${option('learningRate')} or more samples`,
        ]
      : []),
    ...finished.flatMap(({ report: { index, fewTokens } }) => (fewTokens ? [fewTokensNote(index, fewTokens)] : [])),
  ]
}

/** A line for blocks that earlier runs made on another device than the rest. */
export function deviceNotes(finished: readonly { readonly report: BlockReport }[]): string[] {
  const blocks = new Map<Device, number[]>()
  for (const { report } of finished)
    if (report.device !== undefined) blocks.set(report.device, [...(blocks.get(report.device) ?? []), report.index])
  if (blocks.size < 2) return []
  const parts = [...blocks].map(([device, indices]) => `${blockList(indices)} on ${device}`)
  return [`learned on several devices, whose numbers differ in the last bits: ${parts.join('; ')}`]
}

/** Weights that stay float in a block: what cannot be quantized, and what was not to be. */
export function skippedIn({ block, quantizers, unquantizable }: BlockPlan): SkippedReport[] {
  const ignored = block.linears.filter(linear => !quantizers.has(linear))
  return [
    ...block.skipped.map(({ at, reason }) => ({ node: at.origin?.name ?? at.name, reason })),
    ...ignored.map(linear => ({
      node: linear.name,
      reason: unquantizable.has(linear)
        ? 'the node it is in cannot be quantized as a whole'
        : 'it was to be left as it is',
    })),
  ]
}
