/** @file Initializers that do not influence given outputs. Looks at the whole graph, bodies included; runs nothing. */

import type { Graph, Node, Value } from './ir.ts'

/** All initializers of a graph and of the bodies in it. */
function initializersOf(graph: Graph): Value[] {
  return [...graph.initializers, ...graph.nodes.flatMap(node => node.subgraphs().flatMap(initializersOf))]
}

/** Initializers of `graph` and of its bodies without a path to any of `outputs`, in the order of the file. */
export function unreachableInitializers(graph: Graph, outputs: readonly Value[]): Value[] {
  const reached = new Set<Value | Node>()
  const pending = [...outputs]
  for (let value = pending.pop(); value; value = pending.pop()) {
    if (reached.has(value)) continue
    reached.add(value)
    const { producer } = value
    if (!producer || reached.has(producer)) continue
    reached.add(producer)
    // A body reads values of the graph around it directly: they are the same objects.
    for (const body of producer.subgraphs()) pending.push(...body.outputs)
    for (const input of producer.inputs) if (input) pending.push(input)
  }
  return initializersOf(graph).filter(value => !reached.has(value))
}
