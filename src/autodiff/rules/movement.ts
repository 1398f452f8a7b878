/** @file Gradients of ops that only move elements: each is the op that moves them back, repeated elements summed. */

import { QuantError } from '../../errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { sliceRanges, splitSizes } from '../../graph/node-arguments.ts'
import { normalizeAxis, requireConstant, staticShape } from '../../graph/shape.ts'
import { embedded, padded, reshaped, zeros } from '../fragments.ts'
import { transposedProduct } from '../product.ts'
import { single, unary, type VjpRule, type VjpTable } from '../vjp.ts'

const reshape = (g: Builder, x: Value, dy: Value): Value => reshaped(g, dy, staticShape(x))

function transpose(g: Builder, x: Value, dy: Value, _y: Value, node: Node): Value {
  const rank = staticShape(x).length
  const perm = node.ints('perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i)
  const swapsLast = rank >= 2 && perm.every((from, to) => from === (to < rank - 2 ? to : 2 * rank - 3 - to))
  const inverse = perm.map((_, axis) => perm.indexOf(axis))
  return (swapsLast ? transposedProduct(g, dy) : undefined) ?? g.transpose(dy, inverse)
}

const concat: VjpRule = single((g, node, dy, needs) => {
  const axis = normalizeAxis(node.int('axis', 0), staticShape(dy).length)
  const sizes = node.inputs.map(input => staticShape(input!)[axis]!)
  if (node.inputs.length === 1) return [dy]
  if (needs.every(Boolean)) return g.split(dy, sizes, axis)
  let start = 0
  return sizes.map((size, i) => {
    start += size
    return needs[i] ? g.slice(dy, axis, start - size, start) : undefined
  })
})

const split: VjpRule = (g, node, dy) => {
  const x = node.inputs[0]!
  const shape = staticShape(x)
  const axis = normalizeAxis(node.int('axis', 0), shape.length)
  const sizes = splitSizes(node)
  const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((a, b) => a + b, 0))
  const present = dy.flatMap((gradient, i) => (gradient ? [{ gradient, start: starts[i]! }] : []))
  const only = present.length === 1 ? present[0] : undefined
  if (only) return [embedded(g, only.gradient, axis, only.start, shape[axis]!)]
  const partShape = (size: number) => shape.map((dim, i) => (i === axis ? size : dim))
  return [
    g.concat(
      sizes.map((size, i) => dy[i] ?? zeros(g, partShape(size), x.dtype!)),
      axis,
    ),
  ]
}

/** y[i] = x[start + step i] on one axis, step > 1: each gradient gets step - 1 zeros behind it, then moves into place. */
function spread(g: Builder, dy: Value, axis: number, start: number, step: number, size: number): Value {
  const shape = staticShape(dy)
  const count = shape[axis]!
  // dy [.., count, ..] -> [.., count, 1, ..] -> [.., count, step, ..] -> [.., count * step, ..], cropped or padded to size
  const apart = embedded(g, reshaped(g, dy, shape.toSpliced(axis + 1, 0, 1)), axis + 1, 0, step)
  return embedded(g, reshaped(g, apart, shape.with(axis, count * step)), axis, start, size)
}

function slice(g: Builder, x: Value, dy: Value, _y: Value, node: Node): Value {
  const shape = staticShape(x)
  const pads: number[] = Array(2 * shape.length).fill(0)
  let result = dy
  for (const { axis, start, step, size } of sliceRanges(node)) {
    if (size === 0) return zeros(g, shape, x.dtype!)
    // Backwards: turned around, the same elements are taken forwards from the last one on.
    if (step < 0) result = g.slice(result, axis, -1, -(2 ** 31), -1)
    const first = step < 0 ? start + (size - 1) * step : start
    if (Math.abs(step) > 1) {
      result = spread(g, result, axis, first, Math.abs(step), shape[axis]!)
    } else {
      pads[axis] = first
      pads[axis + shape.length] = shape[axis]! - first - size
    }
  }
  return padded(g, result, pads)
}

// y has the repeats of x side by side: [.., r * d, ..] seen as [.., r, d, ..] is summed over r.
function tile(g: Builder, x: Value, dy: Value, _y: Value, node: Node): Value {
  const shape = staticShape(x)
  const repeats = requireConstant(node, 1)
  const apart = reshaped(
    g,
    dy,
    shape.flatMap((dim, i) => [repeats[i]!, dim]),
  )
  const axes = repeats.flatMap((repeat, i) => (repeat === 1 ? [] : [2 * i]))
  return reshaped(g, axes.length > 0 ? g.reduceSum(apart, axes, false) : apart, shape)
}

const pad: VjpRule = single((g, node, dy, needs) => {
  const mode = node.string('mode', 'constant')
  if (mode !== 'constant') {
    throw new QuantError(
      'E_UNSUPPORTED',
      `no gradient rule for Pad with mode "${mode}" (node "${node.name}")`,
      'Extend the row of Pad in src/autodiff/rules/movement.ts.',
    )
  }
  const rank = staticShape(dy).length
  const axes = node.inputs[3]
    ? requireConstant(node, 3).map(axis => normalizeAxis(axis, rank))
    : [...Array(rank).keys()]
  const pads: number[] = Array(2 * rank).fill(0)
  requireConstant(node, 1).forEach((amount, i) => {
    const axis = axes[i % axes.length]!
    pads[i < axes.length ? axis : axis + rank] = amount === 0 ? 0 : -amount
  })
  const dx = padded(g, dy, pads)
  if (!needs[2]) return [dx]
  // The fill value is every element of y that is not x.
  const sum = (value: Value) => g.op('ReduceSum', [value], { keepdims: 0 })
  return [dx, undefined, g.sub(sum(dy), sum(dx))]
})

export const movementRules: VjpTable = {
  Reshape: unary(reshape),
  Flatten: unary(reshape),
  Squeeze: unary(reshape),
  Unsqueeze: unary(reshape),
  Transpose: unary(transpose),
  // The walk sums over the axes that were repeated.
  Expand: unary((_g, _x, dy) => dy),
  Concat: concat,
  Split: split,
  Slice: unary(slice),
  Tile: unary(tile),
  Pad: pad,
}
