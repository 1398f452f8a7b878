/** @file Shapes of ops that read or write by index, and of ops that make tensors from shapes and numbers. */

import { inputShape } from '../node-arguments.ts'
import { normalizeAxis, requireConstant } from '../shape.ts'
import { dtypeOf, sameAsInput, type ShapeTable } from './shape-rule.ts'

export const indexShapes: ShapeTable = {
  Gather: node => {
    const shape = inputShape(node, 0)
    const axis = normalizeAxis(node.int('axis', 0), shape.length)
    return [
      { dtype: dtypeOf(node, 0), shape: [...shape.slice(0, axis), ...inputShape(node, 1), ...shape.slice(axis + 1)] },
    ]
  },
  GatherElements: node => [{ dtype: dtypeOf(node, 0), shape: inputShape(node, 1) }],
  GatherND: node => {
    const data = inputShape(node, 0)
    const indices = inputShape(node, 1)
    return [
      {
        dtype: dtypeOf(node, 0),
        shape: [...indices.slice(0, -1), ...data.slice(indices.at(-1)! + node.int('batch_dims', 0))],
      },
    ]
  },
  OneHot: node => {
    const shape = inputShape(node, 0)
    const rank = shape.length + 1
    const axis = normalizeAxis(node.int('axis', -1), rank)
    return [
      { dtype: dtypeOf(node, 2), shape: [...shape.slice(0, axis), requireConstant(node, 1)[0]!, ...shape.slice(axis)] },
    ]
  },
  TopK: node => {
    const shape = inputShape(node, 0)
    const axis = normalizeAxis(node.int('axis', -1), shape.length)
    const k = requireConstant(node, 1)[0]!
    const result = shape.map((dim, i) => (i === axis ? k : dim))
    return [
      { dtype: dtypeOf(node, 0), shape: result },
      { dtype: 'int64', shape: result },
    ]
  },
  ScatterElements: sameAsInput,
  ScatterND: sameAsInput,
  Shape: node => {
    const rank = inputShape(node, 0).length
    const clamp = (index: number) => Math.min(Math.max(index < 0 ? index + rank : index, 0), rank)
    return [{ dtype: 'int64', shape: [Math.max(0, clamp(node.int('end', rank)) - clamp(node.int('start', 0)))] }]
  },
  Size: () => [{ dtype: 'int64', shape: [] }],
  ConstantOfShape: node => {
    const value = node.attributes.get('value')
    return [{ dtype: value?.type === 'tensor' ? value.value.dtype : 'float32', shape: requireConstant(node, 0) }]
  },
  Range: node => {
    const [start, limit, delta] = [0, 1, 2].map(i => requireConstant(node, i)[0]!)
    return [{ dtype: dtypeOf(node, 0), shape: [Math.max(0, Math.ceil((limit! - start!) / delta!))] }]
  },
}
