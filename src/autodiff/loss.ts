/** @file Losses with their gradients, written together because they share their terms. */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { checkShape, staticShape } from '../graph/shape.ts'
import { elementCount, floatTensor } from '../graph/tensor.ts'

export interface Loss {
  /** Scalar, of the prediction's type. */
  readonly loss: Value
  /** Of the loss with respect to the prediction, in its shape: a seed for `gradients`. */
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
 * Mean over tokens of -log softmax(logits)[label]; gradient (softmax(logits) - one-hot(label)) / T.
 * logits [T, V] float, labels [T] int64 in 0..V-1. Everything is relative to the largest logit of the token: nothing
 * overflows, and the size of the logits costs no digits. The order of the nodes lets the runtime do all of it in one
 * buffer beside the logits; no one-hot tensor exists.
 */
export function crossEntropy(g: Builder, logits: Value, labels: Value): Loss {
  const dims = new Map<string, number>()
  const [tokens] = checkShape(dims, logits, ['T', 'V']) as [number, number]
  checkShape(dims, labels, ['T'])
  const column = g.reshape(labels, [tokens, 1])
  const shifted = g.sub(logits, g.op('ReduceMax', [logits, g.ints([1])]))
  const chosen = g.op('GatherElements', [shifted, column], { axis: 1 })
  const exponentials = g.op('Exp', [shifted])
  const sum = g.reduceSum(exponentials, [1])
  const loss = g.reduceMean(g.sub(g.op('Log', [sum]), chosen), [0, 1], false)
  const softmaxShare = g.mul(exponentials, g.op('Reciprocal', [g.scale(sum, tokens)]))
  const share = Array<number>(tokens).fill(-1 / tokens)
  const dtype = logits.dtype === 'float64' ? 'float64' : 'float32'
  const minusShare = g.initializer('minus_share', floatTensor([tokens, 1], share, dtype))
  const gradient = g.op('ScatterElements', [softmaxShare, column, minusShare], { axis: 1, reduction: 'add' })
  return { loss, gradient }
}
