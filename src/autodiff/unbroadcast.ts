/** @file The transpose of broadcasting, in one place: gradients in a result's shape are summed back to an operand's. */

import { internalError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { type Shape, staticShape } from '../graph/shape.ts'
import { reshaped } from './fragments.ts'

/**
 * Sums `gradient` over the axes along which a value of `shape` was repeated; the gradient itself when there are none.
 * @throws E_INTERNAL when `shape` does not broadcast to the gradient's.
 */
export function unbroadcast(g: Builder, gradient: Value, shape: Shape): Value {
  const from = staticShape(gradient)
  const added = from.length - shape.length
  const fits = added >= 0 && shape.every((dim, i) => dim === 1 || dim === from[added + i])
  if (!fits) {
    throw internalError(
      `the gradient "${gradient.name}" [${from.join(', ')}] is not of a shape that [${shape.join(', ')}] broadcasts to`,
    )
  }
  // Axes of size 1 need no sum: the reshape drops them.
  const axes = from.flatMap((dim, i) => (dim !== 1 && (i < added || shape[i - added] === 1) ? [i] : []))
  const sum = axes.length > 0 ? g.reduceSum(gradient, axes, added === 0) : gradient
  return reshaped(g, sum, shape)
}
