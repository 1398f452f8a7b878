/** @file Reads of weights: every product becomes a MatMul, and a table is never rearranged as a whole. */

import { isFloat } from '../dtype.ts'
import type { Node, Value } from '../ir.ts'
import { staticShape } from '../shape.ts'
import { findStoredWeight } from '../stored-weight.ts'
import type { RewriteBuilder } from './rewrite-builder.ts'
import type { Rewrite } from './rewrite.ts'
import { gatherRows } from './selected-rows.ts'

/** Gemm (ONNX 13): alpha * A' B' + beta * C, as MatMul, so that a linear is one kind of node. */
function gemm(g: RewriteBuilder, node: Node, [a, b, c]: readonly (Value | undefined)[]): Value[] {
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
 * Gather of rows. A tied embedding gathers rows of Transpose(lm_head), or of a half-precision table: then the rewrite gathers from the
 * table as it is stored, and rearranges only the gathered rows.
 */
function gather(g: RewriteBuilder, node: Node, inputs: readonly (Value | undefined)[]): Value[] {
  const chosen = gatherRows(g, node, inputs)
  if (chosen) return [chosen]
  const [table, indices] = inputs as [Value, Value]
  const stored = findStoredWeight(table)
  const isRearranged = 'weight' in stored && stored.weight !== table && isFloat(stored.tensor.dtype)
  if (node.int('axis', 0) !== 0 || !isRearranged) return g.copy(node, inputs)
  const gathered = g.op('Gather', [stored.weight, indices], { axis: stored.transposed ? 1 : 0 })
  if (!stored.transposed) return [gathered]
  const rank = staticShape(gathered).length
  return [g.transpose(gathered, [...Array.from({ length: rank - 1 }, (_, i) => i + 1), 0])]
}

/** One row per op kind. */
export const LINEAR_REWRITES: Record<string, Rewrite> = { Gemm: gemm, Gather: gather }
