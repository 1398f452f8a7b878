/** @file Pass: drops nodes that change neither elements nor shape, once their shapes are known. */

import type { Value } from '../ir.ts'
import { classOf } from '../ops.ts'
import { constantNumbers, sameShape } from '../shape.ts'
import { knownShape } from './known-shape.ts'
import type { ValuePass } from './pass.ts'

/** True if the node that made `value` changes neither elements nor shape. */
function isNoOp(value: Value): boolean {
  const node = value.producer
  const opClass = node && classOf(node.kind)
  if (!node || (opClass !== 'view' && opClass !== 'repetition' && node.kind !== 'Slice')) return false
  const [before, after] = [knownShape(node.inputs[0]), knownShape(value)]
  if (!before || !after || !sameShape(before, after)) return false
  // A Slice of unchanged shape may still run backwards.
  return node.kind !== 'Slice' || !(constantNumbers(node.inputs[4]) ?? []).some(step => step < 0)
}

export const NO_OPS: ValuePass = {
  name: 'drop no-ops',
  replace: (_, value) => (isNoOp(value) ? value.producer!.inputs[0]! : value),
}
