/** @file Pass: drops nodes that only pass one of their inputs on. One row per exporter quirk. */

import { dtypeFromNumber, isFloat } from '../dtype.ts'
import type { Node, Value } from '../ir.ts'
import { elementCount } from '../tensor.ts'
import { knownShape } from './known-shape.ts'
import type { Inputs, NodePass } from './pass.ts'

const isFloat32 = (value: Value | undefined): boolean => value?.dtype === 'float32'

/** Op kind -> the input that equals the first output, if there is one. */
const ALIASES: Readonly<Record<string, (node: Node, inputs: Inputs) => Value | undefined>> = {
  Identity: (_, [x]) => x,
  Dropout: (_, [x]) => x,
  // The working copy is float32 throughout, so a cast to half precision and back changes nothing.
  Cast: (node, [x]) => (isFloat32(x) && isFloat(dtypeFromNumber(node.int('to', 1))) ? x : undefined),
  CastLike: (_, [x, like]) => (isFloat32(x) && isFloat32(like) ? x : undefined),
  // SDPA exports guard rows that may see no token. Without padding there are none.
  Where: (_, [condition, , otherwise]) => {
    const test = condition?.producer
    return test?.kind === 'IsNaN' && test.inputs[0] === otherwise ? otherwise : undefined
  },
  // An empty cache.
  Concat: (_, inputs) => {
    const filled = inputs.filter(value => elementCount(knownShape(value) ?? [1]) > 0)
    return filled.length === 1 ? filled[0] : undefined
  },
}

export const ALIAS: NodePass = {
  name: 'drop aliases',
  apply: (_, node, inputs) => {
    const alias = ALIASES[node.kind]?.(node, inputs)
    return alias && { outputs: [alias] }
  },
}
