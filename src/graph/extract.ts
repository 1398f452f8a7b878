/** @file A part of a graph: what some of its values are computed from. Copies no node and changes none. */

import { internalError } from '../errors.ts'
import { dependencies } from './dependencies.ts'
import { Graph, type Node, type Value } from './ir.ts'

/**
 * The graph that computes `outputs` from `inputs` and constants: the needed nodes in the order of `graph`, and the inputs and
 * initializers they read.
 * @throws E_INTERNAL listing every other value that would have to be given: graph inputs, values of graphs around
 */
export function extract(graph: Graph, inputs: readonly Value[], outputs: readonly Value[]): Graph {
  const here = new Set(graph.nodes)
  const needed = new Set<Node>()
  const missing = new Set<Value>()
  const given = new Set<Value>(inputs)
  const read = new Set<Value>()
  const pending = [...outputs]
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (read.has(value)) continue
    read.add(value)
    if (given.has(value)) continue
    const { producer } = value
    if (producer && here.has(producer)) {
      if (needed.has(producer)) continue
      needed.add(producer)
      pending.push(...dependencies(producer))
    } else if (value.tensor === undefined) missing.add(value)
  }
  if (missing.size > 0) {
    const wanted = outputs.map(value => `"${value.name}"`).join(', ')
    const names = [...missing].map(value => `"${value.name}"`).sort()
    throw internalError(`computing ${wanted} also needs ${names.join(', ')}`)
  }
  const part = new Graph(graph.name)
  part.inputs = inputs.filter(value => read.has(value))
  part.initializers = graph.initializers.filter(value => read.has(value) && !given.has(value))
  part.nodes = graph.nodes.filter(node => needed.has(node))
  part.outputs = [...outputs]
  return part
}
