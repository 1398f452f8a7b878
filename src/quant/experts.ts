/**
 * @file Mixtures of experts, by structure: which linears make an expert (their result is multiplied by what came of the routing), and how
 * many tokens each of them saw. Knows no model family.
 */

import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements } from '../graph/tensor.ts'
import type { Tensors } from '../kernels/session.ts'
import type { Block } from './blocks.ts'
import type { Linear } from './linears.ts'
import type { BlockPlan } from './plan.ts'
import { findRouters } from './routers.ts'

/** What an expert's result is multiplied by: [.., tokens, 1], zero or false for tokens that were not sent to it. */
interface Gate {
  readonly value: Value
  /** Zero means that it was sent there: the third input of Where. */
  readonly inverted: boolean
}

/** Linears that see the same tokens. */
export interface Expert {
  readonly linears: readonly Linear[]
  readonly gates: readonly Gate[]
}

/** Values that depend on the routers' results, and on nothing else of the tokens. */
function routingValues({ input, nodes }: Block, routers: ReadonlySet<Node>): Set<Value> {
  const data = new Set([input, ...nodes.flatMap(({ outputs }) => outputs)])
  const routing = new Set<Value>()
  for (const node of nodes) {
    const read = node.inputs.filter(value => data.has(value!)) as Value[]
    if (routers.has(node) || (read.length > 0 && read.every(value => routing.has(value))))
      for (const output of node.outputs) if (output) routing.add(output)
  }
  return routing
}

/** What the result of `linear` meets of the routing before it is added to other results. */
function gatesOf(linear: Linear, { nodes, input }: Block, routing: ReadonlySet<Value>): Gate[] {
  const data = new Set([input, ...nodes.flatMap(({ outputs }) => outputs)])
  const carried = new Set(linear.node.outputs)
  const gates: Gate[] = []
  for (const node of nodes) {
    const at = node.inputs.findIndex(value => value && carried.has(value))
    if (at < 0) continue
    const others = node.inputs.filter(value => value && data.has(value) && !carried.has(value)) as Value[]
    const gate = others.find(value => routing.has(value))
    if (gate && (node.kind === 'Mul' || (node.kind === 'Where' && at > 0)))
      gates.push({ value: gate, inverted: node.kind === 'Where' && at === 2 })
    else if (others.length > 0 && ['Add', 'Sum', 'Concat'].includes(node.kind)) continue
    for (const output of node.outputs) carried.add(output)
  }
  return gates
}

/** The experts of a block, in the order in which their results are used. */
export function findExperts(block: Block): Expert[] {
  const routers = findRouters(block.nodes)
  if (routers.size === 0) return []
  const routing = routingValues(block, routers)
  const experts = new Map<string, Expert & { readonly linears: Linear[] }>()
  for (const linear of block.linears) {
    const gates = gatesOf(linear, block, routing)
    if (gates.length === 0) continue
    const key = gates.map(({ value }) => value.name).join('\n')
    if (!experts.has(key)) experts.set(key, { linears: [], gates })
    experts.get(key)!.linears.push(linear)
  }
  return [...experts.values()]
}

/** Name of the output with the number of tokens the j-th expert was sent, float32 []. */
export const tokensName = (j: number): string => `tokens${j}`

/** Writes how many tokens the expert is sent; `values` is where the block's values are in the program. */
export function emitTokenCount(g: Builder, { gates }: Expert, values: ReadonlyMap<Value, Value>): Value {
  const flags = gates.map(({ value, inverted }) => {
    const gate = values.get(value)!
    const zero = g.op('Equal', [g.cast(gate, 'float32'), g.scalar(0)])
    const sent = g.cast(inverted ? zero : g.op('Not', [zero]), 'float32')
    const rank = staticShape(gate).length
    return staticShape(gate).at(-1) === 1 ? sent : g.op('ReduceMax', [sent, g.ints([rank - 1])], { keepdims: 1 })
  })
  const all = flags.reduce((a, b) => g.mul(a, b))
  return g.op('ReduceSum', [all], { keepdims: 0 })
}

/** Counts the tokens of every expert over all samples. */
export class TokenCounts {
  readonly experts: readonly Expert[]
  readonly tokens: number[]

  constructor(experts: readonly Expert[]) {
    this.experts = experts
    this.tokens = experts.map(() => 0)
  }

  /** Takes in one run of a forward program that counts. */
  add(outputs: Tensors): void {
    this.experts.forEach((_, j) => {
      this.tokens[j]! += (readElements(outputs[tokensName(j)]!) as Float32Array)[0]!
    })
  }
}

/** Fewer tokens say nothing about an expert, however few its groups. */
const LEAST_TOKENS = 16

/**
 * How many tokens a linear has to see to be learned: each gives one equation for every output, which has two clip ratios per group.
 */
const tokensNeeded = ({ inFeatures }: Linear, group: number): number =>
  Math.max(LEAST_TOKENS, 2 * Math.ceil(inFeatures / group))

/** Experts that saw too few tokens to be learned. */
export interface FewTokens {
  /** Counted from 0, in the order of the graph. */
  readonly experts: readonly number[]
  /** What the most demanding of their linears would have needed. */
  readonly needed: number
}

/** Which experts are left at rounding to nearest, and their linears. */
export function rarelyUsed(
  { quantizers }: BlockPlan,
  { experts, tokens }: TokenCounts,
): { readonly few: FewTokens | undefined; readonly linears: ReadonlySet<Linear> } {
  const needs = experts.map(({ linears }) =>
    Math.max(0, ...linears.map(linear => tokensNeeded(linear, quantizers.get(linear)?.group ?? linear.inFeatures))),
  )
  const rare = experts.flatMap((_, j) => (tokens[j]! < needs[j]! ? [j] : []))
  return {
    few: rare.length === 0 ? undefined : { experts: rare, needed: Math.max(...rare.map(j => needs[j]!)) },
    linears: new Set(rare.flatMap(j => experts[j]!.linears)),
  }
}

/** "block 3: experts 5, 7 saw fewer than 32 tokens: rounded to nearest". */
export function fewTokensNote(block: number, { experts, needed }: FewTokens): string {
  const which = `${experts.length === 1 ? 'expert' : 'experts'} ${experts.join(', ')}`
  return `block ${block}: ${which} saw fewer than ${needed} tokens: rounded to nearest`
}
