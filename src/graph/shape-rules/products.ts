/** @file Shapes of matrix products and of quantization. */

import type { Node } from '../ir.ts'
import { inputShape } from '../node-arguments.ts'
import { matMulShape, type Shape } from '../shape.ts'
import { commonType, dtypeOf, type ShapeRule, type ShapeTable } from './shape-rule.ts'

const swapLast = (shape: Shape, swap: boolean): Shape =>
  swap ? [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!] : shape

/** Operand `index` as it is multiplied. */
const operand = (node: Node, index: number, transposed: string): Shape =>
  swapLast(inputShape(node, index), node.int(transposed, 0) === 1)

const matMul: ShapeRule = node => [
  { dtype: commonType(node, [0, 1]), shape: matMulShape(inputShape(node, 0), inputShape(node, 1)) },
]

const matMulOfTransposed: ShapeRule = node => [
  {
    dtype: commonType(node, [0, 1]),
    shape: matMulShape(operand(node, 0, 'transA'), operand(node, 1, 'transB')),
  },
]

export const productShapes: ShapeTable = {
  MatMul: matMul,
  Gemm: matMulOfTransposed,
  'com.microsoft.FusedMatMul': matMulOfTransposed,
  'com.microsoft.MatMulNBits': node => [
    { dtype: dtypeOf(node, 0), shape: [...inputShape(node, 0).slice(0, -1), node.int('N', 0)] },
  ],
  QuantizeLinear: node => [{ dtype: node.inputs[2]?.dtype ?? 'uint8', shape: inputShape(node, 0) }],
  DequantizeLinear: node => [{ dtype: dtypeOf(node, 1), shape: inputShape(node, 0) }],
}
