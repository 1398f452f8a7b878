/** @file Pass: marks values that depend on constants alone, and values that only rearrange a weight. */

import type { FactPass } from './pass.ts'

/** Ops that only rearrange a weight. */
const PLUMBING = new Set(['Transpose', 'Reshape', 'Cast', 'Identity', 'Squeeze', 'Unsqueeze'])

export const MARK_CONSTANTS: FactPass = {
  name: 'mark constants',
  // Nodes that are refused are taken back: nothing about them may be marked.
  after: ['follow selected rows'],
  note: (state, node) => {
    if (!node.inputs.every(input => state.isConstant(input))) return
    const [data] = node.inputs
    const isWeight = PLUMBING.has(node.kind) && data !== undefined && state.weights.has(data)
    for (const output of node.outputs) if (output) (isWeight ? state.weights : state.pending).add(output)
  },
}
