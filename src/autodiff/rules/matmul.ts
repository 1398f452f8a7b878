/** @file Gradient of matrix products. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { broadcastShapes, type Shape, staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import { reshaped } from '../fragments.ts'
import { product } from '../product.ts'
import { single, type VjpRule, type VjpTable } from '../vjp.ts'

const batchOf = (shape: Shape): Shape => shape.slice(0, -2)

/**
 * Gradients of the operands of y = a b: da = dy b^T and db = a^T dy. a [.., M, K], b [.., K, N], dy [.., M, N].
 * The walk sums over batch axes that were broadcast.
 */
function operands(g: Builder, a: Value, b: Value, dy: Value, needs: readonly boolean[]): (Value | undefined)[] {
  return [needs[0] ? product(g, dy, b, false, true) : undefined, needs[1] ? product(g, a, dy, true, false) : undefined]
}

const matMul: VjpRule = single((g, node, dyIn, needs) => {
  const [aIn, bIn] = node.inputs as [Value, Value]
  // A vector is a matrix of one row on the left, of one column on the right.
  const row = staticShape(aIn).length === 1
  const column = staticShape(bIn).length === 1
  const a = row ? g.reshape(aIn, [1, ...staticShape(aIn)]) : aIn
  const b = column ? g.reshape(bIn, [...staticShape(bIn), 1]) : bIn
  const aShape = staticShape(a)
  const bShape = staticShape(b)
  const batch = broadcastShapes(batchOf(aShape), batchOf(bShape))
  const dy = reshaped(g, dyIn, [...batch, aShape.at(-2)!, bShape.at(-1)!])
  // One b for all of a's batch: tokens are flattened, so that the gradient of b is one product, not a sum over a batch.
  const shared = elementCount(batchOf(bShape)) === 1
  if (shared) {
    const [da, db] = operands(g, flat(g, a), reshaped(g, b, bShape.slice(-2)), flat(g, dy), needs)
    return [da && reshaped(g, da, aShape), db && reshaped(g, db, staticShape(bIn))]
  }
  const [da, db] = operands(g, a, b, dy, needs)
  return [da, db && column ? g.reshape(db, staticShape(db).slice(0, -1)) : db]
})

/** x [.., M, K] -> [.. * M, K] */
function flat(g: Builder, x: Value): Value {
  const shape = staticShape(x)
  return reshaped(g, x, [elementCount(shape.slice(0, -1)), shape.at(-1)!])
}

/** Gemm and FusedMatMul are rewritten to MatMul. */
export const matMulRules: VjpTable = { MatMul: matMul }
