/** @file Pass: writes fused ops as primitives, with the table of rewrites. */

import { REWRITES } from '../rewrites/table.ts'
import type { NodePass } from './pass.ts'

export const REWRITE_FUSED: NodePass = {
  name: 'rewrite fused ops',
  // These drop or refuse nodes that would cost nodes here.
  after: ['drop aliases', 'replace known tensors', 'refuse bodies'],
  apply: ({ g }, node, inputs) => {
    const rewrite = REWRITES.get(node.kind)
    return rewrite && { outputs: rewrite(g, node, inputs) }
  },
}
