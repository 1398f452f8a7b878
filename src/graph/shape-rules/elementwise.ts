/** @file Shapes of ops that work element by element or along an axis, and of reductions. */

import { dtypeFromNumber } from '../dtype.ts'
import { inputShape, reductionAxes } from '../node-arguments.ts'
import { rowsFor } from '../ops.ts'
import { broadcastShapes, normalizeAxis } from '../shape.ts'
import { commonType, dtypeOf, sameAsInput, type ShapeRule, type ShapeTable } from './shape-rule.ts'

/** The shape of the input, along an axis that must exist. */
const alongAxis: ShapeRule = node => {
  normalizeAxis(node.int('axis', -1), inputShape(node, 0).length)
  return sameAsInput(node)
}

const variadic: ShapeRule = node => {
  const all = [...node.inputs.keys()]
  return [{ dtype: commonType(node, all), shape: broadcastShapes(...all.map(i => inputShape(node, i))) }]
}

const binary: ShapeRule = node => [
  { dtype: commonType(node, [0, 1]), shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1)) },
]

/** The exponent may be of another type. */
const power: ShapeRule = node => [
  { dtype: dtypeOf(node, 0), shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1)) },
]

const comparison: ShapeRule = node => [
  { dtype: 'bool', shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1)) },
]

const predicate: ShapeRule = node => [{ dtype: 'bool', shape: inputShape(node, 0) }]

const choice: ShapeRule = node => [
  {
    dtype: commonType(node, [1, 2]),
    shape: broadcastShapes(inputShape(node, 0), inputShape(node, 1), inputShape(node, 2)),
  },
]

const reduction: ShapeRule = node => {
  const axes = new Set(reductionAxes(node))
  const kept = node.int('keepdims', 1) === 1 ? [1] : []
  return [{ dtype: dtypeOf(node, 0), shape: inputShape(node, 0).flatMap((dim, i) => (axes.has(i) ? kept : [dim])) }]
}

const argReduction: ShapeRule = node => {
  const shape = inputShape(node, 0)
  const axis = normalizeAxis(node.int('axis', 0), shape.length)
  const kept = node.int('keepdims', 1) ? [1] : []
  return [{ dtype: 'int64', shape: shape.flatMap((dim, i) => (i === axis ? kept : [dim])) }]
}

export const elementwiseShapes: ShapeTable = {
  ...rowsFor(['identity', 'unary'], sameAsInput),
  ...rowsFor(['predicate'], predicate),
  ...rowsFor(['arithmetic', 'binary'], binary),
  ...rowsFor(['comparison'], comparison),
  ...rowsFor(['variadic'], variadic),
  ...rowsFor(['choice'], choice),
  ...rowsFor(['normalization'], alongAxis),
  ...rowsFor(['reduction'], reduction),
  Pow: power,
  Cast: node => [{ dtype: dtypeFromNumber(node.int('to', 0)), shape: inputShape(node, 0) }],
  CastLike: node => [{ dtype: dtypeOf(node, 1), shape: inputShape(node, 0) }],
  CumSum: sameAsInput,
  Trilu: sameAsInput,
  'com.microsoft.BiasGelu': sameAsInput,
  'com.microsoft.RotaryEmbedding': sameAsInput,
  ArgMax: argReduction,
  ArgMin: argReduction,
}
