/** @file A weight times a factor per row and per column, as a graph whose gradients cost one pass over the weight. */

import { customVjp } from '../autodiff/custom-vjp.ts'
import { ones } from '../autodiff/fragments.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { checkShape } from '../graph/shape.ts'

/**
 * y = w [K, N] * rows [K] * columns [N], float32 or float64; either factor may be absent. The gradients reach the factors
 * only: w is taken for a constant. With P = dy * w, they are two products of a matrix and a vector,
 *   drows = P columns      dcolumns = rows P
 * which the generic rules would make out of four passes over the weight and sums along either axis.
 */
export function emitScaledWeight(g: Builder, w: Value, rows: Value | undefined, columns: Value | undefined): Value {
  const [K, N] = checkShape(new Map(), w, ['K', 'N']) as [number, number]
  const row = rows && g.reshape(rows, [K, 1])
  const column = columns && g.reshape(columns, [1, N])
  let p: Value | undefined
  const times = (builder: Builder, dy: Value) => (p ??= builder.mul(dy, w))
  let y = w
  if (row) {
    y = g.mul(y, row)
    // dy is the gradient of the whole product: the rule of the column factor, below, hands it on untouched.
    customVjp(y.producer!, (builder, _node, [dy], needs) => {
      if (!dy || !needs[1]) return []
      const right = column ? builder.reshape(column, [N, 1]) : ones(builder, [N, 1], w.dtype!)
      return [undefined, builder.matMul(times(builder, dy), right)]
    })
  }
  if (column) {
    y = g.mul(y, column)
    customVjp(y.producer!, (builder, _node, [dy], needs) => {
      if (!dy || !needs[1]) return [dy]
      const left = row ? builder.reshape(row, [1, K]) : ones(builder, [1, K], w.dtype!)
      return [dy, builder.matMul(left, times(builder, dy))]
    })
  }
  return y
}
