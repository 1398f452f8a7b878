/** @file Learning rates of a parameter vector: one number for each stretch of it, so that none of them costs memory or a pass. */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { piecesAsVector, scaled, vectorInPieces } from './fragments.ts'

/** Neighbouring elements with one learning rate. */
export interface Stretch {
  readonly size: number
  readonly rate: number
}

/** Learning rates: `factor`, a float32 scalar, times the rate of the stretch. */
export interface Rates {
  readonly factor: Value
  /** Together as long as the vector. */
  readonly stretches: readonly Stretch[]
}

/** Neighbours of one rate as one stretch. Empty tensors are left out. */
export function joinStretches(stretches: readonly Stretch[]): Stretch[] {
  const joined: Stretch[] = []
  for (const { size, rate } of stretches) {
    const last = joined.at(-1)
    if (size === 0) continue
    if (last?.rate === rate) joined[joined.length - 1] = { size: last.size + size, rate }
    else joined.push({ size, rate })
  }
  return joined
}

/** x [size] with `change` applied to each stretch; `rate` is the scalar factor times the stretch's rate. */
export function perStretch(
  g: Builder,
  x: Value,
  { factor, stretches }: Rates,
  change: (part: Value, rate: Value) => Value,
): Value {
  const rates = stretches.map(({ rate }) => scaled(g, factor, rate))
  if (stretches.length === 1) return change(x, rates[0]!)
  const shapes = stretches.map(({ size }) => [size])
  return piecesAsVector(
    g,
    vectorInPieces(g, x, shapes).map((part, i) => change(part, rates[i]!)),
  )
}
