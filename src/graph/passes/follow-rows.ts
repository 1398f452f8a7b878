/** @file Pass: follows rows that are chosen at run time through the nodes that read them. */

import { rowsThrough } from '../rewrites/row-rules.ts'
import type { FactPass } from './pass.ts'

export const FOLLOW_ROWS: FactPass = {
  name: 'follow selected rows',
  // @throws E_UNSUPPORTED when the node would mix rows.
  note: ({ g: { rows } }, node) => {
    const [output] = node.outputs
    // Rewrites that choose rows or put them back have noted it themselves.
    if (!output || rows.has(output)) return
    rowsThrough(rows, node).forEach((held, i) => {
      const value = node.outputs[i]
      if (value && held) rows.set(value, held)
    })
  },
}
