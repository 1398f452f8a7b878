/**
 * @file Rounding with a straight-through gradient (arXiv:1308.3432): forward rounds, backward is the identity, because the
 * true derivative, zero almost everywhere, teaches nothing. Writes graphs; knows no quantizer.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import { internalError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { tensorOf } from '../graph/tensor.ts'

/**
 * 1.5 * 2^(mantissa bits): adding it leaves no bits for a fraction, so the addition itself rounds, half to even. Exact for
 * |x| < 2^22 in float32 and 2^51 in float64; beyond, the sum is still nearest x to within 1, far outside any quantizer's range.
 */
export function roundingConstant(x: Value): number {
  if (x.dtype === 'float32') return 1.5 * 2 ** 23
  if (x.dtype === 'float64') return 1.5 * 2 ** 52
  throw internalError(`"${x.name}" is ${x.dtype}: only float32 and float64 can be rounded in programs`)
}

/**
 * round(x), half to even, with the identity as gradient; x of any shape, float32 or float64, |x| < 2^22 (2^51).
 * Two additions: faster on the CPU than Round, which cannot work in place, and WebGPU has no Round at all
 * (onnxruntime 1.30). Their own gradients are the identity already, which is all the estimator asks for.
 */
export function roundSte(g: Builder, x: Value): Value {
  const constant = roundingConstant(x)
  return g.shift(g.shift(x, constant), -constant)
}

/**
 * Ways to round in a graph. Programs add a constant, which is fast and right for the numbers they meet. The user's graph has Round,
 * which is right for every number.
 */
export type Rounding = 'addition' | 'operator'

/** round(x), half to even, with zero gradient. */
export function roundDetached(g: Builder, x: Value, by: Rounding = 'addition', role = 'rounded'): Value {
  const rounded = by === 'addition' ? roundSte(g, x) : g.op('Round', [x], {}, { role })
  customVjp(rounded.producer!, () => [])
  return rounded
}

/** `rounded`, with the identity as gradient towards x, of the same shape and type. */
export function straightThrough(g: Builder, rounded: Value, x: Value): Value {
  // A Where that always takes the rounded branch gives the gradient somewhere to go other than through the rounding.
  const always = g.initializer('always', tensorOf('bool', [], Uint8Array.of(1)))
  const selected = g.op('Where', [always, rounded, x])
  customVjp(selected.producer!, (_g, _node, [dy]) => [undefined, undefined, dy])
  return selected
}

/** x rounded to the values `dtype` can hold, in x's own type, with the identity as gradient. */
export function castRoundSte(g: Builder, x: Value, dtype: 'float16'): Value {
  return straightThrough(g, g.cast(g.cast(x, dtype), x.dtype!), x)
}
