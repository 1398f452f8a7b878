/**
 * @file The other branch of a merged file (one If, chosen by use_cache_branch): where it has the linears, constants and values that a
 * block of the analyzed branch has. Finds them by running the same finders on both; knows no exporter.
 */

import type { Graph, Model, Node, Value } from '../graph/ir.ts'
import { readBytes, type Tensor } from '../graph/tensor.ts'
import { staticShape } from '../graph/shape.ts'
import { findStoredWeight } from '../graph/stored-weight.ts'
import type { ActivationSite } from './activations.ts'
import type { Block } from './blocks.ts'
import type { LeavingValues } from './leaving.ts'
import { isPlainProduct, type Linear } from './linears.ts'
import { type End, sameSite } from './mappings/mappings.ts'
import { type BlockPlan, type ChangedSite, planBlock, type PlanOptions } from './plan.ts'

/** The branch that was not analyzed, as a working copy of its own. */
interface TracedBranch {
  readonly blocks: readonly Block[]
  readonly values: ReadonlyMap<Value, Value>
  readonly leaving: LeavingValues
}

export interface OtherBranch {
  /** Product of the analyzed branch -> those elsewhere that read the same stored weight in the same orientation. */
  readonly readers: ReadonlyMap<Node, readonly Node[]>
  /** The branch as it was traced, or why it was not. */
  readonly traced: TracedBranch | string
}

/** What the other branch has at the places a plan changes. */
export interface Twins {
  /** For each linear of the block: nodes that get the same packed weight. */
  readonly linears: readonly (readonly Node[])[]
  /** For each of plan.changedSites: where the same constant is. */
  readonly sites: readonly ChangedSite[]
  /** For each of plan.activations.sites that has a value of the user's graph: the same value. */
  readonly values: readonly Value[]
}

/** A product with a stored 2-D weight. */
interface Product {
  readonly node: Node
  readonly graph: Graph
  readonly tensor: Tensor
  readonly transposed: boolean
}

function productOf(node: Node, graph: Graph): Product | undefined {
  const isGemm = node.kind === 'Gemm'
  if (node.kind !== 'MatMul' && !isGemm) return undefined
  const [, factor] = node.inputs
  if (!factor || !isPlainProduct(node)) return undefined
  const stored = findStoredWeight(factor)
  if ('reason' in stored) return undefined
  const transB = isGemm && node.int('transB', 0) === 1
  return { node, graph, tensor: stored.tensor, transposed: stored.transposed !== transB }
}

function productsOf(graph: Graph): Product[] {
  return graph.nodes.flatMap(node => {
    const product = productOf(node, graph)
    return [...(product ? [product] : []), ...node.subgraphs().flatMap(productsOf)]
  })
}

/**
 * Products that read a weight of `origins` in another graph of the model. Where a weight is read several times, the first reader
 * answers to the first, as long as there are as many.
 * @param traced nodes that were analyzed: they answer to nobody.
 */
export function readersElsewhere(
  model: Model,
  origins: readonly Node[],
  traced: ReadonlySet<Node | undefined>,
): Map<Node, Node[]> {
  const all = new Map<Tensor, Product[]>()
  for (const product of productsOf(model.graph)) all.set(product.tensor, [...(all.get(product.tensor) ?? []), product])
  const byNode = new Map([...all.values()].flat().map(product => [product.node, product]))
  const readers = new Map<Node, Node[]>()
  for (const origin of origins) {
    const own = byNode.get(origin)
    if (!own) continue
    const same = all.get(own.tensor)!.filter(({ transposed }) => transposed === own.transposed)
    const here = same.filter(({ graph }) => graph === own.graph)
    const elsewhere = new Set(same.filter(({ graph, node }) => graph !== own.graph && !traced.has(node)))
    const graphs = new Set([...elsewhere].map(({ graph }) => graph))
    const found = [...graphs].flatMap(graph => {
      const there = [...elsewhere].filter(product => product.graph === graph)
      return there.length === here.length ? [there[here.indexOf(own)]!.node] : []
    })
    readers.set(origin, found)
  }
  return readers
}

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
