/** @file Gradients of activation functions, from their own outputs where those suffice. */

import { QuantError } from '../../errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { keepWhere, scaled } from '../fragments.ts'
import { unary, type VjpTable } from '../vjp.ts'

/** 1 - x */
const oneMinus = (g: Builder, x: Value): Value => g.sub(g.scalar(1, x.dtype), x)

/** d erf(x) / dx = 2 / sqrt(pi) exp(-x^2) */
const erfSlope = (g: Builder, x: Value): Value => scaled(g, g.op('Exp', [g.neg(g.mul(x, x))]), 2 / Math.sqrt(Math.PI))

/** Gelu(x) = x P(x) with P the normal distribution: slope = P(x) + x p(x), p(x) = exp(-x^2 / 2) / sqrt(2 pi). */
function geluSlope(g: Builder, x: Value): Value {
  const distribution = scaled(g, g.shift(g.op('Erf', [scaled(g, x, Math.SQRT1_2)]), 1), 0.5)
  const density = scaled(g, g.op('Exp', [scaled(g, g.mul(x, x), -0.5)]), 1 / Math.sqrt(2 * Math.PI))
  return g.add(distribution, g.mul(x, density))
}

/**
 * y = x (1 + t) / 2 with t = tanh(u), u = k (x + 0.044715 x^3), k = sqrt(2 / pi):
 * slope = (1 + t) / 2 + x (1 - t^2) k (1 + 3 * 0.044715 x^2) / 2 = (1 + t) / 2 * (1 + (1 - t) x k (1 + 3 * 0.044715 x^2)).
 */
function tanhGeluSlope(g: Builder, x: Value): Value {
  const k = Math.sqrt(2 / Math.PI)
  const square = g.mul(x, x)
  const t = g.op('Tanh', [g.mul(x, g.shift(scaled(g, square, 0.044715 * k), k))])
  const inner = g.mul(x, g.shift(scaled(g, square, 3 * 0.044715 * k), k))
  return g.mul(scaled(g, g.shift(t, 1), 0.5), g.shift(g.mul(oneMinus(g, t), inner), 1))
}

function gelu(g: Builder, x: Value, dy: Value, _y: Value, node: Node): Value {
  const approximate = node.string('approximate', 'none')
  if (approximate === 'tanh') return g.mul(dy, tanhGeluSlope(g, x))
  if (approximate === 'none') return g.mul(dy, geluSlope(g, x))
  throw new QuantError(
    'E_UNSUPPORTED',
    `Gelu "${node.name}" has approximate "${approximate}", which ONNX does not define`,
  )
}

/** y = x s, s = sigmoid(alpha x): slope = s + alpha y (1 - s). */
function quickGelu(g: Builder, x: Value, dy: Value, y: Value, node: Node): Value {
  const alpha = node.float('alpha', 1.702)
  const s = g.op('Sigmoid', [scaled(g, x, alpha)])
  return g.mul(dy, g.add(s, scaled(g, g.mul(y, oneMinus(g, s)), alpha)))
}

export const activationRules: VjpTable = {
  Erf: unary((g, x, dy) => g.mul(dy, erfSlope(g, x))),
  Sigmoid: unary((g, _x, dy, y) => g.mul(dy, g.mul(y, oneMinus(g, y)))),
  Tanh: unary((g, _x, dy, y) => g.mul(dy, oneMinus(g, g.mul(y, y)))),
  // 0 at the kink, as torch
  Relu: unary((g, _x, dy, y) => keepWhere(g, g.op('Greater', [y, g.scalar(0, y.dtype)]), dy)),
  Softplus: unary((g, x, dy) => g.mul(dy, g.op('Sigmoid', [x]))),
  Gelu: unary(gelu),
  'com.microsoft.Gelu': unary(gelu),
  'com.microsoft.QuickGelu': unary(quickGelu),
}
