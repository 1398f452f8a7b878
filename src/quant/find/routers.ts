/** @file Finds routers: products whose result feeds TopK or ArgMax. By structure; knows no model family. */

import type { Node } from '../../graph/ir.ts'
import { normalizeAxis, staticShape } from '../../graph/shape.ts'

/** Products among `nodes` whose result reaches a TopK or ArgMax over their outputs, without another product on the way. */
export function findRouters(nodes: readonly Node[]): Set<Node> {
  const makers = new Map(nodes.flatMap(node => node.outputs.map(output => [output, node] as const)))
  const routers = new Set<Node>()
  for (const choice of nodes) {
    if (choice.kind !== 'TopK' && choice.kind !== 'ArgMax') continue
    const from = staticShape(choice.inputs[0]!)
    const experts = from[normalizeAxis(choice.int('axis', choice.kind === 'TopK' ? -1 : 0), from.length)]
    const seen = new Set([choice])
    for (const node of seen) {
      if (node.kind === 'MatMul') {
        if (staticShape(node.outputs[0]!).at(-1) === experts) routers.add(node)
      } else for (const input of node.inputs) if (makers.has(input)) seen.add(makers.get(input)!)
    }
  }
  return routers
}
