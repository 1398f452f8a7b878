/** @file Gradients of activation functions, from their outputs where those suffice. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { keepWhere, scaled } from '../fragments.ts'
import { unary, type VjpTable } from '../vjp.ts'

/** 1 - x */
const oneMinus = (g: Builder, x: Value): Value => g.sub(g.scalar(1, x.dtype), x)

/** d erf(x) / dx = 2 / sqrt(pi) exp(-x^2) */
const erfSlope = (g: Builder, x: Value): Value => scaled(g, g.op('Exp', [g.neg(g.mul(x, x))]), 2 / Math.sqrt(Math.PI))

/** Gelu and its relatives are rewritten with these. */
export const activationRules: VjpTable = {
  Erf: unary((g, x, dy) => g.mul(dy, erfSlope(g, x))),
  Sigmoid: unary((g, _x, dy, y) => g.mul(dy, g.mul(y, oneMinus(g, y)))),
  Tanh: unary((g, _x, dy, y) => g.mul(dy, oneMinus(g, g.mul(y, y)))),
  // 0 at the kink, as torch
  Relu: unary((g, _x, dy, y) => keepWhere(g, g.op('Greater', [y, g.scalar(0, y.dtype)]), dy)),
  Softplus: unary((g, x, dy) => g.mul(dy, g.op('Sigmoid', [x]))),
}
