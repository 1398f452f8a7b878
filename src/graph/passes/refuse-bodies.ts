/** @file Pass: refuses bodies (graphs in attributes) on operators that take none. */

import { QuantError } from '../../errors.ts'
import { inferableKinds } from '../infer-shapes.ts'
import type { NodePass } from './pass.ts'

export const REFUSE_BODIES: NodePass = {
  name: 'refuse bodies',
  apply: (_, node) => {
    if (node.subgraphs().length > 0 && inferableKinds.has(node.kind))
      throw new QuantError('E_NOT_ONNX', `${node.kind} "${node.name}" has bodies, which that operator does not take`)
    return undefined
  },
}
