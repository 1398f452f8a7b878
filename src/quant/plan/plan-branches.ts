/** @file Plan of a block that a merged file holds in two branches: nothing changes in one branch that does not change in both. */

import type { Node, Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { readBytes } from '../../graph/tensor.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import type { OtherBranch, TracedBranch } from '../find/other-branch.ts'
import type { ActivationSite } from './activation-sites.ts'
import type { BlockPlan, PlanOptions } from './block-plan.ts'
import type { End } from './mappings/mapping.ts'
import { planBlock } from './plan-block.ts'
import { sameSite } from './site.ts'

/** How a block is to be quantized where another branch has it too: nothing is changed in one branch that is not changed in both. */
export function planBranches(block: Block, options: PlanOptions, other: OtherBranch | undefined): BlockPlan {
  const plan = planBlock(block, options)
  if (!other) return plan
  const linears = block.linears.map(({ origin }) => other.readers.get(origin) ?? [])
  const missing = block.linears.filter((linear, i) => plan.quantizers.has(linear) && linears[i]!.length === 0)
  const names = missing.map(({ name }) => name).join(', ')
  const { traced } = other
  const twinBlock = typeof traced === 'string' ? undefined : traced.blocks[block.index]
  const reason =
    missing.length > 0
      ? `the other branch has weights of its own for ${names}`
      : typeof traced === 'string'
        ? traced
        : !twinBlock || !sameLinears(block, linears, twinBlock)
          ? 'the other branch has other blocks'
          : undefined
  const twin = reason === undefined ? planBlock(twinBlock!, optionsIn(traced as TracedBranch, options)) : undefined
  const changes = twin && sameChanges(plan, twin) ? twin.changedSites : undefined
  const attention = twin && sameAttention(plan, twin) ? userValues(twin) : undefined
  const why = reason ?? 'the other branch computes it differently'
  return {
    ...plan,
    ...(!changes && {
      ...{ mappings: [], changedSites: [], addedBiases: [] },
      skippedMappings: [...plan.skippedMappings, ...plan.mappings.map(({ name }) => ({ name, reason: why }))],
    }),
    ...(!attention &&
      plan.activations && {
        activations: { ...plan.activations, sites: plan.activations.sites.filter(({ user }) => !user) },
      }),
    twins: { linears, sites: changes ?? [], values: attention ?? [] },
    notes: [
      ...plan.notes,
      ...(missing.length > 0 ? [`kept as float in one branch of the file: ${names}`] : []),
      ...(!changes && plan.mappings.length > 0 ? [`no transformations: ${why}`] : []),
      ...(!attention && userValues(plan).length > 0 ? [`queries, keys and values are not quantized: ${why}`] : []),
    ],
  }
}

const optionsIn = ({ values, leaving }: TracedBranch, options: PlanOptions): PlanOptions => ({
  ...options,
  values,
  leaving: options.leaving && { ...options.leaving, values: leaving },
})

const userValues = ({ activations }: BlockPlan): Value[] =>
  (activations?.sites ?? []).flatMap(({ user }) => (user ? [user] : []))

function sameLinears(block: Block, readers: readonly (readonly Node[])[], twin: Block): boolean {
  return (
    block.linears.length === twin.linears.length &&
    readers.every((nodes, i) => nodes.length === 0 || nodes.includes(twin.linears[i]!.origin))
  )
}

/** What the mappings of a plan do, in numbers that mean the same in every branch. */
function effects({ block, mappings, changedSites, biases, addedBiases }: BlockPlan): unknown {
  const linearIndex = (linear: Linear) => block.linears.indexOf(linear)
  const siteIndex = (end: { readonly node: Node; readonly input: number }) =>
    changedSites.findIndex(({ site }) => sameSite(site, end))
  const effect = (end: End) => [
    end.kind,
    end.kind === 'vector' ? siteIndex(end.site) : linearIndex(end.linear),
    [...end.scales],
  ]
  return [
    mappings.map(({ kind, size, divided, multiplied, shift }) => [
      ...[kind, size, divided.map(effect), multiplied.map(effect)],
      shift && [
        siteIndex(shift),
        multiplied.map(end => end.kind === 'rows' && biases.has(end.linear) && siteIndex(biases.get(end.linear)!)),
      ],
    ]),
    addedBiases.map(linearIndex),
  ]
}

/** Whether two plans of the same linears change them, and equal constants, in the same way: each is exact in its own branch. */
function sameChanges(plan: BlockPlan, twin: BlockPlan): boolean {
  const sameConstants =
    plan.changedSites.length === twin.changedSites.length &&
    plan.changedSites.every(({ site, dtype }, i) => {
      const other = twin.changedSites[i]!
      const [a, b] = [site, other.site].map(({ node, input }) => node.inputs[input]!.tensor!)
      return (
        dtype === other.dtype && a!.dims.join() === b!.dims.join() && Buffer.compare(readBytes(a!), readBytes(b!)) === 0
      )
    })
  return sameConstants && JSON.stringify(effects(plan)) === JSON.stringify(effects(twin))
}

/** Whether queries, keys and values are quantized at the same step of the computation. */
function sameAttention(plan: BlockPlan, twin: BlockPlan): boolean {
  const describe = ({ value, group }: ActivationSite) =>
    `${value.producer?.kind} of [${staticShape(value)}] by ${group}`
  const list = ({ activations }: BlockPlan) =>
    (activations?.sites ?? []).filter(({ user }) => user !== undefined).map(describe)
  return list(plan).join() === list(twin).join()
}
