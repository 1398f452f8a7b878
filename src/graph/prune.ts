/** @file Removes what nobody reads. onnxruntime runs every node of a program, read or not. */

import { dependencies } from './dependencies.ts'
import type { Graph, Node, Value } from './ir.ts'

/** Removes nodes and initializers of `graph` that its outputs do not depend on. Inputs stay. */
export function prune(graph: Graph): void {
  const here = new Set(graph.nodes)
  const needed = new Set<Node>()
  const read = new Set<Value>()
  const pending = [...graph.outputs]
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (read.has(value)) continue
    read.add(value)
    const { producer } = value
    if (!producer || !here.has(producer) || needed.has(producer)) continue
    needed.add(producer)
    pending.push(...dependencies(producer))
  }
  graph.nodes = graph.nodes.filter(node => needed.has(node))
  graph.initializers = graph.initializers.filter(value => read.has(value))
}
