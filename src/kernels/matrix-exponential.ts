/** @file Exponential of square matrices as a graph, and its inverse: exp(A) exp(-A) = I. Matrix products only, so gradients come by themselves. */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { floatTensor } from '../graph/tensor.ts'
import { identityMatrix } from './orthonormal.ts'

/** Squarings: the series is summed for A / 2^SQUARINGS. */
const SQUARINGS = 4

export interface Exponentials {
  /** exp(A) */
  readonly exponential: Value
  /** exp(-A) */
  readonly inverse: Value
}

/**
 * exp(A) and exp(-A) of A [count, n, n], float32 or float64, by scaling and squaring (Moler and Van Loan 2003, method 3). With B = A / 16,
 *
 *   C = I + B^2/2! + B^4/4! + B^6/6!      S = B (I + B^2/3! + B^4/5! + B^6/7!)      exp(+-A) = (C +- S)^16
 *
 * The even powers serve both. What is left out is |B|^8 / 8! at each side of 16 products: the product of both results differs from I by
 * less than 1e-9 for |A| up to 2.8 (spectral norm), in float64.
 */
export function emitExponentials(g: Builder, a: Value): Exponentials {
  const [count, n] = staticShape(a) as [number, number, number]
  const one = g.once(`identity_${n}_${a.dtype}`, () =>
    g.typed(g.initializer('identity', floatTensor([1, n, n], identityMatrix(n))), a.dtype!),
  )
  const b = g.scale(a, 2 ** -SQUARINGS)
  const b2 = g.matMul(b, b)
  const b4 = g.matMul(b2, b2)
  const powers = [b2, b4, g.matMul(b2, b4)]
  const series = (factorials: readonly number[]) =>
    powers.reduce((sum, power, i) => g.add(sum, g.scale(power, 1 / factorials[i]!)), one)
  const even = series([2, 24, 720])
  const odd = g.matMul(b, series([6, 120, 5040]))
  let both = g.concat([g.add(even, odd), g.sub(even, odd)], 0)
  for (let i = 0; i < SQUARINGS; i++) both = g.matMul(both, both)
  const [exponential, inverse] = g.split(both, [count, count], 0)
  return { exponential: exponential!, inverse: inverse! }
}
