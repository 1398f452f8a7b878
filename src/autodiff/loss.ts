/** @file Loss and its gradient, written together because they share their terms. */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { checkShape, staticShape } from '../graph/shape.ts'
import { elementCount } from '../graph/tensor.ts'

export interface Loss {
  /** Scalar, of the prediction's type. */
  readonly loss: Value
  /** Gradient of the loss with respect to the prediction, in its shape: a seed for `gradients`. */
  readonly gradient: Value
}

/** mean((prediction - target)^2) over all elements; gradient 2 / n (prediction - target). Both of one shape and type. */
export function meanSquaredError(g: Builder, prediction: Value, target: Value): Loss {
  const count = elementCount(checkShape(new Map(), prediction, staticShape(target)))
  const difference = g.sub(prediction, target)
  const sum = g.op('ReduceSumSquare', [difference], { keepdims: 0 })
  return { loss: g.scale(sum, 1 / count), gradient: g.scale(difference, 2 / count) }
}
