/** @file Pass: drops the Identity nodes that rewrites wrote to keep two values apart while nodes were copied. */

import type { Value } from '../ir.ts'
import type { GraphPass } from './pass.ts'

export const DROP_IDENTITIES: GraphPass = {
  name: 'drop identities',
  apply: ({ g: { graph } }) => {
    const passed = new Map<Value, Value>()
    for (const node of graph.nodes) {
      node.inputs = node.inputs.map(input => input && (passed.get(input) ?? input))
      if (node.kind === 'Identity') passed.set(node.outputs[0]!, node.inputs[0]!)
    }
    graph.nodes = graph.nodes.filter(node => !passed.has(node.outputs[0]!))
    graph.outputs = graph.outputs.map(output => passed.get(output) ?? output)
    return passed
  },
}
