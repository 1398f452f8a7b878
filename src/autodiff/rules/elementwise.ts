/** @file Gradients of arithmetic, element by element. Results are in the output's shape: the walk undoes broadcasting. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { constantNumbers, sameShape, staticShape } from '../../graph/shape.ts'
import { dropWhere, keepWhere, scaled } from '../fragments.ts'
import { unbroadcast } from '../unbroadcast.ts'
import { single, unary, type VjpRule, type VjpTable } from '../vjp.ts'

const add: VjpRule = single((_g, _node, dy) => [dy, dy])

// Summed before it is negated: b is often small.
const sub: VjpRule = single((g, node, dy, needs) => [
  dy,
  needs[1] ? g.neg(unbroadcast(g, dy, staticShape(node.inputs[1]!))) : undefined,
])

const mul: VjpRule = single((g, node, dy, needs) => {
  const [a, b] = node.inputs as [Value, Value]
  if (a === b) return [g.mul(dy, scaled(g, a, 2))]
  return [needs[0] ? g.mul(dy, b) : undefined, needs[1] ? g.mul(dy, a) : undefined]
})

// d(a/b) = da / b - db * y / b; where b was repeated, the sum over dy * y is divided instead of each term.
const div: VjpRule = single((g, node, dy, needs) => {
  const b = node.inputs[1]!
  const y = node.outputs[0]!
  const da = needs[0] ? g.div(dy, b) : undefined
  if (!needs[1]) return [da]
  if (da && sameShape(staticShape(b), staticShape(y))) return [da, g.neg(g.mul(da, y))]
  return [da, g.neg(g.div(unbroadcast(g, g.mul(dy, y), staticShape(b)), b))]
})

/** x^(c - 1) * c for constant c. */
function powerSlope(g: Builder, x: Value, c: number): Value | undefined {
  if (c === 0) return undefined
  if (c === 2) return scaled(g, x, 2)
  if (c === 3) return scaled(g, g.mul(x, x), 3)
  return scaled(g, g.op('Pow', [x, g.scalar(c - 1, x.dtype)]), c)
}

const pow: VjpRule = single((g, node, dy, needs) => {
  const [x, exponent] = node.inputs as [Value, Value]
  const y = node.outputs[0]!
  const constant = constantNumbers(exponent)
  const only = constant?.length === 1 && !needs[1] ? constant[0] : undefined
  if (only === 1) return [dy]
  // c x^(c - 1) = c / y for c = 0.5, the square root written as a power
  if (only === 0.5) return [scaled(g, g.div(dy, y), 0.5)]
  if (only !== undefined) {
    const slope = powerSlope(g, x, only)
    return [slope && g.mul(dy, slope)]
  }
  const c = exponent.dtype === x.dtype ? exponent : g.cast(exponent, x.dtype!)
  const dx = needs[0] ? g.mul(dy, g.mul(c, g.op('Pow', [x, g.shift(c, -1)]))) : undefined
  if (!needs[1]) return [dx]
  // d(x^c)/dc = y log x; 0^c is flat in c, and 0 * log 0 would be NaN
  const slope = g.mul(y, g.op('Log', [x]))
  return [dx, g.mul(dy, dropWhere(g, g.op('Equal', [x, g.scalar(0, x.dtype)]), slope))]
})

// Gradient flows where min <= x <= max, bounds included (torch.clamp); a bound receives what x lost to it.
const clip: VjpRule = single((g, node, dy, needs) => {
  const [x, min, max] = node.inputs
  const y = node.outputs[0]!
  return [
    needs[0] ? keepWhere(g, g.op('Equal', [x, y]), dy) : undefined,
    needs[1] ? keepWhere(g, g.op('Less', [x, min]), dy) : undefined,
    needs[2] ? keepWhere(g, g.op('Greater', [x, max]), dy) : undefined,
  ]
})

// Operands that equal the result share its gradient equally (torch.maximum, torch.minimum).
const extremum: VjpRule = single((g, node, dy, needs) => {
  const y = node.outputs[0]!
  if (node.inputs.length === 1) return [dy]
  const masks = node.inputs.map(input => g.cast(g.op('Equal', [input, y]), y.dtype!))
  const share = g.div(
    dy,
    masks.reduce((sum, mask) => g.add(sum, mask)),
  )
  return masks.map((mask, i) => (needs[i] ? g.mul(share, mask) : undefined))
})

const where: VjpRule = single((g, node, dy, needs) => {
  const condition = node.inputs[0]!
  return [
    undefined,
    needs[1] ? keepWhere(g, condition, dy) : undefined,
    needs[2] ? dropWhere(g, condition, dy) : undefined,
  ]
})

export const elementwiseRules: VjpTable = {
  Add: add,
  Sub: sub,
  Mul: mul,
  Div: div,
  Pow: pow,
  Clip: clip,
  Max: extremum,
  Min: extremum,
  Where: where,
  Identity: unary((_g, _x, dy) => dy),
  Cast: unary((g, x, dy) => (dy.dtype === x.dtype ? dy : g.cast(dy, x.dtype!))),
  Neg: unary((g, _x, dy) => g.neg(dy)),
  Abs: unary((g, x, dy) => g.mul(dy, g.op('Sign', [x]))),
  // dy / (2 y)
  Sqrt: unary((g, _x, dy, y) => scaled(g, g.div(dy, y), 0.5)),
  // d(1/x) = -y^2 dx
  Reciprocal: unary((g, _x, dy, y) => g.neg(g.mul(dy, g.mul(y, y)))),
  Exp: unary((g, _x, dy, y) => g.mul(dy, y)),
  Log: unary((g, x, dy) => g.div(dy, x)),
  Sin: unary((g, x, dy) => g.mul(dy, g.op('Cos', [x]))),
  Cos: unary((g, x, dy) => g.neg(g.mul(dy, g.op('Sin', [x])))),
}
