/** @file Passes: drop nodes and constants that no output needs. */

import { extract } from '../extract.ts'
import type { GraphPass } from './pass.ts'

export const DROP_UNREAD_NODES: GraphPass = {
  name: 'drop unread nodes',
  // Constants that were computed no longer need the nodes that gave them.
  after: ['fold constants'],
  apply: ({ g: { graph } }) => {
    graph.nodes = extract(graph, graph.inputs, graph.outputs).nodes
    return new Map()
  },
}

export const DROP_UNREAD_CONSTANTS: GraphPass = {
  name: 'drop unread constants',
  after: ['drop unread nodes'],
  apply: ({ g: { graph } }) => {
    const read = new Set(graph.nodes.flatMap(node => node.inputs))
    graph.initializers = graph.initializers.filter(value => read.has(value))
    return new Map()
  },
}
