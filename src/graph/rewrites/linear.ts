/** @file How weights are read in the working copy: every product is a MatMul, and a table is never rearranged as a whole. */

import type { Builder } from '../builder.ts'
import { isFloat } from '../dtype.ts'
import type { Node, Value } from '../ir.ts'
import { staticShape } from '../shape.ts'

/** Gemm (ONNX 13): alpha * A' B' + beta * C, as MatMul, so that a linear is one kind of node. */
export function gemm(g: Builder, node: Node, [a, b, c]: readonly (Value | undefined)[]): Value[] {
  const left = node.int('transA', 0) ? g.transposeLast(a!) : a!
  const right = node.int('transB', 0) ? g.transposeLast(b!) : b!
  const alpha = node.float('alpha', 1)
  const beta = node.float('beta', 1)
  const product = g.matMul(left, right)
  const scaled = alpha === 1 ? product : g.scale(product, alpha)
  if (!c || beta === 0) return [scaled]
  return [g.add(scaled, beta === 1 ? c : g.scale(c, beta))]
}

/**
 * Gather of rows from a transposed or half-precision table (a tied embedding: rows of Transpose(lm_head)): gathers from
 * the table as stored and rearranges only what was gathered. Undefined when `node` is something else.
 */
export function gatherFromTable(g: Builder, node: Node, inputs: readonly (Value | undefined)[]): Value[] | undefined {
  if (node.kind !== 'Gather' || node.int('axis', 0) !== 0) return undefined
  let table = inputs[0]!
  let transposed = false
  for (let maker = table.producer; maker; maker = table.producer) {
    if (maker.kind === 'Transpose' && staticShape(table).length === 2) transposed = !transposed
    else if (maker.kind !== 'Cast' || !isFloat(maker.inputs[0]!.dtype!)) return undefined
    table = maker.inputs[0]!
  }
  if (!table.tensor || table === inputs[0]) return undefined
  const gathered = g.op('Gather', [table, inputs[1]], { axis: transposed ? 1 : 0 })
  const rank = staticShape(gathered).length
  if (!transposed) return [gathered]
  return [g.transpose(gathered, [...Array.from({ length: rank - 1 }, (_, i) => i + 1), 0])]
}
