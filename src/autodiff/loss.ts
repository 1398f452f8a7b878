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

/**
 * Mean over tokens of KL(p || q) = sum p (log p - log q), where p and q are the distributions of target and prediction, logits
 * [.., tokens, vocabulary]; gradient (q - p) / tokens. Both of one shape and type.
 */
export function klDivergence(g: Builder, prediction: Value, target: Value): Loss {
  const shape = checkShape(new Map(), prediction, staticShape(target))
  const tokens = elementCount(shape.slice(0, -1))
  const distribution = (logits: Value) => {
    const shifted = g.sub(logits, g.reduceLast('ReduceMax', logits))
    const powers = g.op('Exp', [shifted])
    const sum = g.reduceSum(powers, [-1])
    return { probability: g.div(powers, sum), log: g.sub(shifted, g.op('Log', [sum])) }
  }
  const [p, q] = [distribution(target), distribution(prediction)]
  const terms = g.mul(p.probability, g.sub(p.log, q.log))
  return {
    loss: g.scale(g.op('ReduceSum', [terms], { keepdims: 0 }), 1 / tokens),
    gradient: g.scale(g.sub(q.probability, p.probability), 1 / tokens),
  }
}
