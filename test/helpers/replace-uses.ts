/** @file Replaces values of a graph, for tests that change a model. */

import type { Graph, Value } from '../../src/graph/ir.ts'

/** Makes every reader of `from`, graph outputs included, read `to`; one pass over the graph for any number of replacements. */
export function replaceUses(graph: Graph, replacements: ReadonlyMap<Value, Value>): void {
  const resolve = (value: Value): Value => {
    let current = value
    for (let next = replacements.get(current); next !== undefined && next !== current; next = replacements.get(current))
      current = next
    return current
  }
  for (const node of graph.nodes) {
    node.inputs = node.inputs.map(input => input && resolve(input))
    for (const body of node.subgraphs()) replaceUses(body, replacements)
  }
  graph.outputs = graph.outputs.map(resolve)
}
