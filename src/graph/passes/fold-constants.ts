/** @file Pass: computes the constants that nodes of the working copy read. Weights are left as they are. */

import { extract } from '../extract.ts'
import type { Value } from '../ir.ts'
import type { GraphPass } from './pass.ts'

export const FOLD_CONSTANTS: GraphPass = {
  name: 'fold constants',
  apply: async state => {
    const { graph } = state.g
    const { pending } = state
    const { nodes } = extract(graph, graph.inputs, graph.outputs)
    const stay = nodes.filter(node => !node.outputs.some(value => value && pending.has(value)))
    const read = stay.flatMap(node => node.inputs).filter(value => value !== undefined && pending.has(value))
    await state.fold(new Set(read as Value[]))
    return new Map()
  },
}
