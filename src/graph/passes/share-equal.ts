/** @file Pass: keeps one of computed constants that are equal. Masks and rotary tables repeat in every layer. */

import { createHash } from 'node:crypto'
import type { Value } from '../ir.ts'
import type { GraphPass } from './pass.ts'

/** Constants that repeat an earlier one -> the earlier one. Constants that are still in a file are not read for it. */
function repeated(initializers: readonly Value[]): Map<Value, Value> {
  const first = new Map<string, Value>()
  const replaced = new Map<Value, Value>()
  for (const value of initializers) {
    const { dtype, dims, data } = value.tensor!
    if (!(data instanceof Uint8Array)) continue
    const key = `${dtype}[${dims}]${createHash('sha256').update(data).digest('base64')}`
    const known = first.get(key)
    if (known) replaced.set(value, known)
    else first.set(key, value)
  }
  return replaced
}

export const SHARE_EQUAL: GraphPass = {
  name: 'share equal constants',
  // A constant that nobody reads must not stand for one that is read.
  after: ['fold constants', 'drop unread constants'],
  apply: ({ g: { graph } }) => {
    const shared = repeated(graph.initializers)
    for (const node of graph.nodes) node.inputs = node.inputs.map(input => input && (shared.get(input) ?? input))
    graph.initializers = graph.initializers.filter(value => !shared.has(value))
    return shared
  },
}
