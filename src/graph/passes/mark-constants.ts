/** @file Pass: marks values that depend on constants alone, and values that only rearrange a weight. */

import { keepsElements } from '../ops.ts'
import type { FactPass } from './pass.ts'

/** The op only rearranges a weight. */
const rearranges = (kind: string): boolean => keepsElements(kind) || kind === 'Transpose'

export const MARK_CONSTANTS: FactPass = {
  name: 'mark constants',
  // Nodes that are refused are taken back: nothing about them may be marked.
  after: ['follow selected rows'],
  note: (state, node) => {
    if (!node.inputs.every(input => state.isConstant(input))) return
    const [data] = node.inputs
    const isWeight = rearranges(node.kind) && data !== undefined && state.weights.has(data)
    for (const output of node.outputs) if (output) (isWeight ? state.weights : state.pending).add(output)
  },
}
