/** @file Experts of a mixture, by structure: linears whose result is multiplied by the result of a router. Knows no model family. */

import { dependents } from '../../graph/dependencies.ts'
import type { Node, Value } from '../../graph/ir.ts'
import type { Block } from './blocks.ts'
import type { Linear } from './linears.ts'
import { findRouters } from './routers.ts'

/** Factor of an expert's result: [.., tokens, 1], zero or false for tokens that were not sent to it. */
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
  const data = dependents(nodes, [input])
  const routing = new Set<Value>()
  for (const node of nodes) {
    const read = node.inputs.filter(value => data.has(value!)) as Value[]
    if (routers.has(node) || (read.length > 0 && read.every(value => routing.has(value))))
      for (const output of node.outputs) if (output) routing.add(output)
  }
  return routing
}

/** Gates that the result of `linear` passes before it is added to other results. */
function gatesOf(linear: Linear, { nodes, input }: Block, routing: ReadonlySet<Value>): Gate[] {
  const data = dependents(nodes, [input])
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
