/** @file The nodes between given values of a graph. Copies and changes nothing. */

import { internalError } from '../errors.ts'
import { dependencies } from './dependencies.ts'
import type { Value } from './ir.ts'
import { Graph, type Node } from './ir.ts'

/**
 * Nodes of `graph` needed to compute `outputs` from `inputs` and constants, in the order of the graph.
 * @throws E_INTERNAL listing every other value that would have to be given: graph inputs, values of graphs around
 */
export function extract(graph: Graph, inputs: readonly Value[], outputs: readonly Value[]): Node[] {
  const here = new Set(graph.nodes)
  const needed = new Set<Node>()
  const missing = new Set<Value>()
  const seen = new Set<Value>(inputs)
  const pending = outputs.filter(value => !seen.has(value))
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (seen.has(value)) continue
    seen.add(value)
    const producer = value.producer
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
  return graph.nodes.filter(node => needed.has(node))
}

/** What of a graph is needed for some of its values, which are its outputs then. */
export function programOf(graph: Graph, outputs: readonly Value[]): Graph {
  const program = new Graph(graph.name)
  program.nodes = extract(graph, graph.inputs, outputs)
  const read = new Set<Value | undefined>([...outputs, ...program.nodes.flatMap(({ inputs }) => inputs)])
  program.inputs = graph.inputs.filter(value => read.has(value))
  program.initializers = graph.initializers.filter(value => read.has(value))
  program.outputs = [...outputs]
  return program
}
