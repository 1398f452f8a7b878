/** @file Arguments of a node as plain numbers, from its attributes and constant inputs: axes, slice ranges, split sizes. */

import { QuantError } from '../errors.ts'
import type { Node, Value } from './ir.ts'
import { constantNumbers, normalizeAxis, requireConstant, type Shape, staticShape } from './shape.ts'

/** An input that must be there. @throws E_UNSUPPORTED when it is absent. */
export function requireInput(node: Node, index: number): Value {
  const value = node.inputs[index]
  if (value === undefined) throw new QuantError('E_UNSUPPORTED', `${node.kind} "${node.name}" lacks its input ${index}`)
  return value
}

/** Shape of an input. @throws E_UNSUPPORTED when it is absent or depends on data. */
export const inputShape = (node: Node, index: number): Shape => staticShape(requireInput(node, index))

/** Axes of a reduction: input 1. None means all axes, or no axis with noop_with_empty_axes. */
export function reductionAxes(node: Node): number[] {
  const rank = inputShape(node, 0).length
  const axes = node.inputs[1] ? requireConstant(node, 1) : []
  if (axes.length > 0) return axes.map(axis => normalizeAxis(axis, rank))
  return node.int('noop_with_empty_axes', 0) ? [] : Array.from({ length: rank }, (_, i) => i)
}

/** One resolved dimension of a Slice: `start` and `step` as used, `size` elements. */
export interface SliceRange {
  readonly axis: number
  readonly start: number
  readonly step: number
  readonly size: number
}

/** Starts, ends, axes and steps of a Slice node with negative and out-of-range values resolved. */
export function sliceRanges(node: Node): SliceRange[] {
  const shape = inputShape(node, 0)
  const starts = requireConstant(node, 1)
  const ends = requireConstant(node, 2)
  const axes = node.inputs[3] ? requireConstant(node, 3) : starts.map((_, i) => i)
  const steps = node.inputs[4] ? requireConstant(node, 4) : starts.map(() => 1)
  return starts.map((rawStart, i) => {
    const axis = normalizeAxis(axes[i]!, shape.length)
    const dim = shape[axis]!
    const step = steps[i]!
    const fromFront = (index: number) => (index < 0 ? index + dim : index)
    const clamp = (index: number, low: number, high: number) => Math.min(Math.max(index, low), high)
    const start = step > 0 ? clamp(fromFront(rawStart), 0, dim) : clamp(fromFront(rawStart), 0, dim - 1)
    const end = step > 0 ? clamp(fromFront(ends[i]!), 0, dim) : clamp(fromFront(ends[i]!), -1, dim - 1)
    return { axis, start, step, size: Math.max(0, Math.ceil((end - start) / step)) }
  })
}

/**
 * Sizes along the axis of a Split node: from its input, or equal parts with a smaller last one.
 * @throws E_UNSUPPORTED when the sizes are computed from the tokens, as for rows sorted by expert.
 */
export function splitSizes(node: Node): number[] {
  const shape = inputShape(node, 0)
  const dim = shape[normalizeAxis(node.int('axis', 0), shape.length)]!
  if (node.inputs[1]) {
    const sizes = constantNumbers(node.inputs[1])
    if (sizes) return sizes
    throw new QuantError(
      'E_UNSUPPORTED',
      `the sizes of the parts of a Split depend on the tokens`,
      'Experts that get their rows from a sorted list (Granite-MoE) are not supported: they are where each expert picks its rows by ' +
        'NonZero (optimum), and as one MoE node (onnxruntime-genai).',
    )
  }
  const parts = node.int('num_outputs', node.outputs.length)
  const size = Math.ceil(dim / parts)
  return Array.from({ length: parts }, (_, i) => Math.min(size, dim - i * size))
}
