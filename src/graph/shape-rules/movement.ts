/** @file Shapes of ops that move elements: views, repetitions, parts and joins. */

import { internalError } from '../../errors.ts'
import { inputShape, sliceRanges, splitSizes } from '../node-arguments.ts'
import { broadcastShapes, normalizeAxis, requireConstant, reshapeTarget, sameShape, type Shape } from '../shape.ts'
import { elementCount } from '../tensor.ts'
import { commonType, dtypeOf, type ShapeTable } from './shape-rule.ts'

export const movementShapes: ShapeTable = {
  Transpose: node => {
    const shape = inputShape(node, 0)
    const perm = node.ints('perm') ?? shape.map((_, i) => shape.length - 1 - i)
    if (
      !sameShape(
        [...perm].sort((a, b) => a - b),
        [...shape.keys()],
      )
    )
      throw internalError(`[${perm.join(', ')}] is no order of ${shape.length} axes`)
    return [{ dtype: dtypeOf(node, 0), shape: perm.map(i => shape[i]!) }]
  },
  Reshape: node => [
    {
      dtype: dtypeOf(node, 0),
      shape: reshapeTarget(inputShape(node, 0), requireConstant(node, 1), node.int('allowzero', 0) === 1),
    },
  ],
  Flatten: node => {
    const shape = inputShape(node, 0)
    const axis = node.int('axis', 1) < 0 ? node.int('axis', 1) + shape.length : node.int('axis', 1)
    return [{ dtype: dtypeOf(node, 0), shape: [elementCount(shape.slice(0, axis)), elementCount(shape.slice(axis))] }]
  },
  Squeeze: node => {
    const shape = inputShape(node, 0)
    const axes = node.inputs[1]
      ? requireConstant(node, 1).map(axis => normalizeAxis(axis, shape.length))
      : shape.flatMap((dim, i) => (dim === 1 ? [i] : []))
    return [{ dtype: dtypeOf(node, 0), shape: shape.filter((_, i) => !axes.includes(i)) }]
  },
  Unsqueeze: node => {
    const shape = inputShape(node, 0)
    const axes = requireConstant(node, 1)
    const rank = shape.length + axes.length
    const inserted = new Set(axes.map(axis => normalizeAxis(axis, rank)))
    const rest = [...shape]
    return [
      { dtype: dtypeOf(node, 0), shape: Array.from({ length: rank }, (_, i) => (inserted.has(i) ? 1 : rest.shift()!)) },
    ]
  },
  Expand: node => [{ dtype: dtypeOf(node, 0), shape: broadcastShapes(inputShape(node, 0), requireConstant(node, 1)) }],
  Tile: node => {
    const repeats = requireConstant(node, 1)
    if (repeats.length !== inputShape(node, 0).length) throw internalError(`${repeats.length} repeats do not fit`)
    return [{ dtype: dtypeOf(node, 0), shape: inputShape(node, 0).map((dim, i) => dim * repeats[i]!) }]
  },
  Concat: node => {
    const shapes = node.inputs.map((_, i) => inputShape(node, i))
    const axis = normalizeAxis(node.int('axis', 0), shapes[0]!.length)
    const others = (shape: Shape) => shape.map((dim, i) => (i === axis ? -1 : dim))
    if (!shapes.every(shape => sameShape(others(shape), others(shapes[0]!))))
      throw internalError(`shapes cannot be joined along axis ${axis}`)
    const total = shapes.reduce((sum, shape) => sum + shape[axis]!, 0)
    return [
      {
        dtype: commonType(node, [...node.inputs.keys()]),
        shape: shapes[0]!.map((dim, i) => (i === axis ? total : dim)),
      },
    ]
  },
  Slice: node => {
    const shape = [...inputShape(node, 0)]
    for (const { axis, size } of sliceRanges(node)) shape[axis] = size
    return [{ dtype: dtypeOf(node, 0), shape }]
  },
  Split: node => {
    const shape = inputShape(node, 0)
    const axis = normalizeAxis(node.int('axis', 0), shape.length)
    const sizes = splitSizes(node)
    if (sizes.reduce((sum, size) => sum + size, 0) !== shape[axis])
      throw internalError(`parts of [${sizes.join(', ')}] do not fill axis ${axis}`)
    return sizes.map(size => ({
      dtype: dtypeOf(node, 0),
      shape: shape.map((dim, i) => (i === axis ? size : dim)),
    }))
  },
  Pad: node => {
    const shape = inputShape(node, 0)
    const pads = requireConstant(node, 1)
    const axes = node.inputs[3]
      ? requireConstant(node, 3).map(axis => normalizeAxis(axis, shape.length))
      : shape.map((_, i) => i)
    if (pads.length !== 2 * axes.length) throw internalError(`${pads.length} pads do not fit ${axes.length} axes`)
    const result = [...shape]
    axes.forEach((axis, i) => {
      result[axis] = result[axis]! + pads[i]! + pads[i + axes.length]!
    })
    return [{ dtype: dtypeOf(node, 0), shape: result }]
  },
}
