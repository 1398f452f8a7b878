/** @file Pass: copies primitives as they are. Casts to a float type become casts to float32. */

import { dtypeFromNumber, isFloat } from '../dtype.ts'
import type { NodePass } from './pass.ts'

export const COPY_NODE: NodePass = {
  name: 'copy primitives',
  after: ['refuse overflow', 'rewrite fused ops', 'modernize'],
  apply: ({ g }, node, inputs) => {
    const isFloatCast = node.kind === 'Cast' && isFloat(dtypeFromNumber(node.int('to', 1)))
    return { outputs: isFloatCast ? [g.cast(inputs[0]!, 'float32')] : g.copy(node, inputs) }
  },
}
