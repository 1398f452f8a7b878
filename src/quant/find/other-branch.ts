/** @file The other branch of a merged file (one If, chosen by use_cache_branch): products there that read the weights of the blocks. Knows no exporter. */

import type { Graph, Model, Node, Value } from '../../graph/ir.ts'
import { isRefused, type Refused } from '../../graph/refusal.ts'
import { findStoredWeight } from '../../graph/stored-weight.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { Block } from './blocks.ts'
import type { LeavingValues } from './leaving.ts'
import { isPlainProduct } from './linears.ts'

/** The branch that was not analyzed, as a working copy of its own. */
export interface TracedBranch {
  readonly blocks: readonly Block[]
  readonly values: ReadonlyMap<Value, Value>
  readonly leaving: LeavingValues
}

/** Subject of refusals about the branch as a whole. */
export const OTHER_BRANCH = 'the other branch'

export interface OtherBranch {
  /** Product of the analyzed branch -> those elsewhere that read the same stored weight in the same orientation. */
  readonly readers: ReadonlyMap<Node, readonly Node[]>
  /** The branch as it was traced, or why it was not. */
  readonly traced: TracedBranch | Refused
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
  if (isRefused(stored)) return undefined
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
 * Products that read a weight of `origins` in another graph of the model. Readers of the same weight are paired by position, if both
 * graphs have equally many.
 * @param traced nodes that were analyzed; they are not paired.
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
