/** @file Dependencies between the nodes and values of a graph, bodies of Loop and If included. Changes nothing. */

import type { Graph, Node, Value } from './ir.ts'

/** Values a graph reads from the graphs around it. */
export function capturedValues(graph: Graph): Set<Value> {
  const own = new Set<Value>([...graph.inputs, ...graph.initializers])
  for (const node of graph.nodes) for (const output of node.outputs) if (output) own.add(output)
  const captured = new Set<Value>()
  const read = (value: Value) => {
    if (!own.has(value)) captured.add(value)
  }
  for (const node of graph.nodes) for (const value of dependencies(node)) read(value)
  graph.outputs.forEach(read)
  return captured
}

/** Inputs of a node and the values its bodies read from outside; in order, each once. */
export function dependencies(node: Node): Set<Value> {
  const values = new Set<Value>()
  for (const input of node.inputs) if (input) values.add(input)
  for (const body of node.subgraphs()) for (const value of capturedValues(body)) values.add(value)
  return values
}

/** Values that depend on `inputs`, and the inputs themselves. @param nodes in topological order */
export function dependents(nodes: readonly Node[], inputs: readonly Value[]): ReadonlySet<Value> {
  const values = new Set<Value>(inputs)
  for (const node of nodes) {
    if (![...dependencies(node)].some(value => values.has(value))) continue
    for (const output of node.outputs) if (output) values.add(output)
  }
  return values
}
