/** @file Gradients of matrix products. */

import { QuantError } from '../../errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { broadcastShapes, type Shape, staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import { reshaped, scaled } from '../fragments.ts'
import { product } from '../product.ts'
import { unbroadcast } from '../unbroadcast.ts'
import { single, type VjpRule, type VjpTable } from '../vjp.ts'

interface Flags {
  readonly transA: boolean
  readonly transB: boolean
  readonly alpha: number
}

const flags = (node: Node): Flags => ({
  transA: node.int('transA', 0) === 1,
  transB: node.int('transB', 0) === 1,
  alpha: node.float('alpha', 1),
})

const batchOf = (shape: Shape): Shape => shape.slice(0, -2)

/**
 * y = alpha op(a) op(b): d op(a) = alpha dy op(b)^T and d op(b) = alpha op(a)^T dy, each written so that it comes out in
 * the operand's own layout. Batch axes that were broadcast are summed by the walk.
 * a [.., M, K], b [.., K, N] before op, dy [.., M, N].
 */
function operands(
  g: Builder,
  a: Value,
  b: Value,
  dy: Value,
  { transA, transB, alpha }: Flags,
  needs: readonly boolean[],
) {
  const da = () => (transA ? product(g, b, dy, transB, true, alpha) : product(g, dy, b, false, !transB, alpha))
  const db = () => (transB ? product(g, dy, a, true, transA, alpha) : product(g, a, dy, !transA, false, alpha))
  return [needs[0] ? da() : undefined, needs[1] ? db() : undefined]
}

const matMul: VjpRule = single((g, node, dyIn, needs) => {
  if (node.int('transBatchA', 0) === 1 || node.int('transBatchB', 0) === 1) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `no gradient rule for ${node.kind} with transBatchA or transBatchB (node "${node.name}")`,
      'Extend the row in src/autodiff/rules/matmul.ts.',
    )
  }
  const [aIn, bIn] = node.inputs as [Value, Value]
  const settings = flags(node)
  // A vector is a matrix of one row on the left, of one column on the right.
  const row = staticShape(aIn).length === 1
  const column = staticShape(bIn).length === 1
  const a = row ? g.reshape(aIn, [1, ...staticShape(aIn)]) : aIn
  const b = column ? g.reshape(bIn, [...staticShape(bIn), 1]) : bIn
  const aShape = staticShape(a)
  const bShape = staticShape(b)
  const batch = broadcastShapes(batchOf(aShape), batchOf(bShape))
  const dy = reshaped(g, dyIn, [...batch, aShape.at(settings.transA ? -1 : -2)!, bShape.at(settings.transB ? -2 : -1)!])
  // One b for all of a's batch: tokens are flattened, so that the gradient of b is one product, not a sum over a batch.
  const shared = elementCount(batchOf(bShape)) === 1 && !settings.transA
  const [da, db] = shared
    ? operands(g, flat(g, a), reshaped(g, b, bShape.slice(-2)), flat(g, dy), settings, needs)
    : operands(g, a, b, dy, settings, needs)
  return [
    da && (shared ? reshaped(g, da, aShape) : da),
    db && (shared ? reshaped(g, db, staticShape(bIn)) : column ? g.reshape(db, staticShape(db).slice(0, -1)) : db),
  ]
})

/** x [.., M, K] -> [.. * M, K] */
function flat(g: Builder, x: Value): Value {
  const shape = staticShape(x)
  return reshaped(g, x, [elementCount(shape.slice(0, -1)), shape.at(-1)!])
}

const gemm: VjpRule = single((g, node, dy, needs) => {
  const [a, b, c] = node.inputs as [Value, Value, Value | undefined]
  const [da, db] = operands(g, a, b, dy, flags(node), needs)
  // Summed before it is scaled: c is mostly a row.
  const dc = needs[2] && c ? scaled(g, unbroadcast(g, dy, staticShape(c)), node.float('beta', 1)) : undefined
  return [da, db, dc]
})

export const matMulRules: VjpTable = {
  MatMul: matMul,
  Gemm: gemm,
  'com.microsoft.FusedMatMul': matMul,
}
