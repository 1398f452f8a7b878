/** @file Plan of a block that a merged file holds in two branches: nothing changes in one branch that does not change in both. */

import type { Node, Value } from '../../graph/ir.ts'
import { isRefused, type Refused } from '../../graph/refusal.ts'
import { staticShape } from '../../graph/shape.ts'
import { readBytes } from '../../graph/tensor.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import { OTHER_BRANCH, type OtherBranch, type TracedBranch } from '../find/other-branch.ts'
import type { ActivationSite } from './activation-sites.ts'
import type { BlockPlan, PlanOptions } from './block-plan.ts'
import type { End } from './mappings/mapping.ts'
import { planBlock } from './plan-block.ts'
import { sameSite } from './site.ts'

/** Plan of a block that another branch has too: changes that the other branch cannot make as well are left out. */
export function planBranches(block: Block, options: PlanOptions, other: OtherBranch | undefined): BlockPlan {
  const plan = planBlock(block, options)
  if (!other) return plan
  const linears = block.linears.map(({ origin }) => other.readers.get(origin) ?? [])
  const missing = block.linears.filter((linear, i) => plan.quantizers.has(linear) && linears[i]!.length === 0)
  const names = missing.map(({ name }) => name).join(', ')
  const answer = missing.length > 0 ? refused(`the other branch has weights of its own for ${names}`) : other.traced
  const otherPlan = isRefused(answer) ? answer : planIn(answer, block, linears, options)
  const mappings = isRefused(otherPlan) ? otherPlan : sameMappings(plan, otherPlan)
  const attention = isRefused(otherPlan) ? otherPlan : sameAttention(plan, otherPlan)
  return {
    ...plan,
    ...(isRefused(mappings) && withoutMappings(plan, mappings)),
    ...(isRefused(attention) && { activationSites: plan.activationSites.filter(({ user }) => !user) }),
    otherBranch: {
      linears,
      sites: isRefused(mappings) ? [] : mappings,
      values: isRefused(attention) ? [] : attention,
    },
    notes: [
      ...plan.notes,
      ...(missing.length > 0 ? [`kept as float in one branch of the file: ${names}`] : []),
      ...(isRefused(mappings) && plan.mappings.length > 0 ? [`no transformations: ${mappings.reason}`] : []),
      ...(isRefused(attention) && userValues(plan).length > 0
        ? [`queries, keys and values are not quantized: ${attention.reason}`]
        : []),
    ],
  }
}

const DIFFERENT = 'the other branch computes it differently'

const refused = (reason: string): Refused => ({ at: OTHER_BRANCH, reason })

/** Plan of the same block in the other branch. */
function planIn(
  { blocks, values, leaving }: TracedBranch,
  block: Block,
  readers: readonly (readonly Node[])[],
  options: PlanOptions,
): BlockPlan | Refused {
  const same = blocks[block.index]
  if (!same || !sameLinears(block, readers, same)) return refused('the other branch has other blocks')
  return planBlock(same, {
    ...options,
    values,
    leaving: options.leaving && { ...options.leaving, values: leaving },
  })
}

function withoutMappings({ mappings, skippedMappings }: BlockPlan, { reason }: Refused<unknown>): Partial<BlockPlan> {
  return {
    mappings: [],
    gains: [],
    changedSites: [],
    addedBiases: [],
    skippedMappings: [...skippedMappings, ...mappings.map(({ name }) => ({ at: name, reason }))],
  }
}

const userValues = ({ activationSites }: BlockPlan): Value[] =>
  activationSites.flatMap(({ user }) => (user ? [user] : []))

function sameLinears(block: Block, readers: readonly (readonly Node[])[], other: Block): boolean {
  return (
    block.linears.length === other.linears.length &&
    readers.every((nodes, i) => nodes.length === 0 || nodes.includes(other.linears[i]!.origin))
  )
}

/** Effects of a plan's mappings, as numbers that mean the same in every branch. */
function effects({ block, mappings, gains, changedSites, biases, addedBiases }: BlockPlan): unknown {
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
      kind,
      size,
      divided.map(effect),
      multiplied.map(effect),
      shift && [
        siteIndex(shift),
        multiplied.map(end => end.kind === 'rows' && biases.has(end.linear) && siteIndex(biases.get(end.linear)!)),
      ],
    ]),
    addedBiases.map(linearIndex),
    gains.map(({ site }) => siteIndex(site)),
  ]
}

/** Constants that `other` changes as `plan` does; refused where one plan would not be exact in the other branch. */
function sameMappings(plan: BlockPlan, other: BlockPlan): BlockPlan['changedSites'] | Refused {
  const sameConstants =
    plan.changedSites.length === other.changedSites.length &&
    plan.changedSites.every(({ site, dtype }, i) => {
      const there = other.changedSites[i]!
      const [a, b] = [site, there.site].map(({ node, input }) => node.inputs[input]!.tensor!)
      return (
        dtype === there.dtype && a!.dims.join() === b!.dims.join() && Buffer.compare(readBytes(a!), readBytes(b!)) === 0
      )
    })
  const isSame = sameConstants && JSON.stringify(effects(plan)) === JSON.stringify(effects(other))
  return isSame ? other.changedSites : refused(DIFFERENT)
}

/** Queries, keys and values of `other`; refused where they are quantized at another step of the computation. */
function sameAttention(plan: BlockPlan, other: BlockPlan): Value[] | Refused {
  const describe = ({ value, group }: ActivationSite) =>
    `${value.producer?.kind} of [${staticShape(value)}] by ${group}`
  const list = ({ activationSites }: BlockPlan) =>
    activationSites.filter(({ user }) => user !== undefined).map(describe)
  return list(plan).join() === list(other).join() ? userValues(other) : refused(DIFFERENT)
}
