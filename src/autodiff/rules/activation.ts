/** @file Gradients of activation functions, from their outputs where those suffice. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { keepWhere, scaled } from '../fragments.ts'
import { unary, type VjpTable } from '../vjp.ts'

// No 1 - y: onnxruntime's CPU kernel takes twice as long for a number less a tensor as for two tensors.
const sigmoidGradient = (g: Builder, dy: Value, y: Value): Value => {
  const slope = g.mul(dy, y)
  return g.sub(slope, g.mul(slope, y))
}

/** d erf(x) / dx = 2 / sqrt(pi) exp(-x^2) */
const erfSlope = (g: Builder, x: Value): Value => scaled(g, g.op('Exp', [g.neg(g.mul(x, x))]), 2 / Math.sqrt(Math.PI))

/** Gelu and its relatives are rewritten with these. */
export const activationRules: VjpTable = {
  Erf: unary((g, x, dy) => g.mul(dy, erfSlope(g, x))),
  Sigmoid: unary((g, _x, dy, y) => sigmoidGradient(g, dy, y)),
  Tanh: unary((g, _x, dy, y) => g.sub(dy, g.mul(g.mul(dy, y), y))),
  // 0 at the kink, as torch
  Relu: unary((g, _x, dy, y) => keepWhere(g, g.op('Greater', [y, g.scalar(0, y.dtype)]), dy)),
  Softplus: unary((g, x, dy) => g.mul(dy, g.op('Sigmoid', [x]))),
}
