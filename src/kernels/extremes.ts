/**
 * @file Least and greatest numbers along an axis, zero included, with their gradients, in few passes over them. Writes graphs;
 * knows no quantizer.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import { expanded, ones, reshaped } from '../autodiff/fragments.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { type Shape, staticShape } from '../graph/shape.ts'

/** lo <= 0 <= hi. */
export interface Extremes {
  readonly lo: Value
  readonly hi: Value
}

/** x [G, S] or [G, S, N] -> [G, 1] or [G, 1, N]: the sum over S. */
export function sumOverGroup(g: Builder, x: Value): Value {
  const [, size, N] = staticShape(x) as [number, number, number?]
  if (N === undefined) return g.reduceSum(x, [1])
  // As a product with ones: ReduceSum over a middle axis runs on one core and along the stride, 2 to 9 ms for a weight of
  // 1024 x 2816 that the product sums in a tenth of one.
  return g.matMul(ones(g, [1, size], x.dtype!), x)
}

/**
 * min(x, 0) and max(x, 0) over S of x [G, S] or [G, S, N], float32 or float64; the result is [G] or [G, N].
 *
 * Gradients are those of torch.amax and torch.amin: equal elements share theirs equally. None where zero is the extreme.
 */
export function emitExtremes(g: Builder, x: Value): Extremes {
  return { lo: extreme(g, x, 'Min', 'Less'), hi: extreme(g, x, 'Max', 'Greater') }
}

function extreme(g: Builder, x: Value, pick: 'Min' | 'Max', beyond: 'Less' | 'Greater'): Value {
  const [G, size, ...rest] = staticShape(x) as [number, number, ...number[]]
  const block = rest.length > 0 ? blockOf(size) : undefined
  const reduce = (value: Value, axis: number) => g.op(`Reduce${pick}`, [value, g.ints([axis])], { keepdims: 0 })
  // Over a middle axis of 1024, one reduction takes four times as long as two do, of neighbours and then of what they left.
  const blocks = block && g.op('Reshape', [x, g.ints([G, size / block, block, ...rest])], {}, { name: 'blocks' })
  const parts = blocks ? reduce(blocks, 2) : undefined
  const reduced = reduce(parts ?? x, 1)

  // Elements that are the extreme get what it receives over their number: dx = (x = extreme) * dy / sum(x = extreme).
  const share = (builder: Builder, dy: Value, shape: Shape): Value => {
    const ofGroup = (value: Value) => reshaped(builder, value, [G, 1, ...rest])
    const equal = builder.cast(builder.op('Equal', [x, ofGroup(reduced)]), x.dtype!)
    return reshaped(builder, builder.mul(equal, builder.div(ofGroup(dy), sumOverGroup(builder, equal))), shape)
  }
  if (parts) {
    // The walk brings dy to the parts as it is, in copies; what it becomes is decided over the whole axis, where ties are counted.
    customVjp(reduced.producer!, (builder, _node, [dy]) => [
      dy && expanded(builder, reshaped(builder, dy, [G, 1, ...rest]), staticShape(parts)),
    ])
    customVjp(parts.producer!, (builder, node, [dy]) => [
      dy && share(builder, builder.slice(dy, 1, 0, 1), staticShape(node.inputs[0]!)),
    ])
  } else customVjp(reduced.producer!, (builder, _node, [dy]) => [dy && share(builder, dy, staticShape(x))])

  const zero = g.scalar(0, x.dtype)
  const result = g.op(pick, [reduced, zero])
  customVjp(result.producer!, (builder, _node, [dy]) => [
    dy && builder.mul(dy, builder.cast(builder.op(beyond, [reduced, zero]), x.dtype!)),
  ])
  return result
}

/** Length of the parts an axis is reduced in: the divisor nearest 16 in [8, 32]; none for short axes. */
function blockOf(size: number): number | undefined {
  if (size < 32) return undefined
  return [16, 15, 18, 14, 20, 12, 24, 10, 28, 11, 22, 9, 32, 8].find(block => size % block === 0)
}
