/**
 * @file Products with a Kronecker product P = left (x) right of two small matrices, as a graph: two small products in place of a large
 * one. Training programs and the user's graph share it.
 */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'

/** Sizes of the two factors; their product is the number of channels. */
export type Factors = readonly [number, number]

/** Two matrices of a Kronecker product as values of a program, [n1, n1] and [n2, n2]. */
export interface KroneckerValues {
  /** Transposed. */
  readonly left: Value
  readonly right: Value
}

/** Factors of `channels` nearest to each other, the lesser one first: 256 = 16 x 16, 704 = 22 x 32. */
export function nearestFactors(channels: number): Factors {
  let first = Math.floor(Math.sqrt(channels))
  while (channels % first !== 0) first--
  return [first, channels / first]
}

/**
 * x P for x [.., n1 * n2] of `rank` dimensions: with X [n1, n2] of a token, left^T X right.
 * @param left transposed, [n1, n1]. @param right [n2, n2]
 */
export function emitKroneckerProduct(
  g: Builder,
  x: Value,
  { left, right }: KroneckerValues,
  [n1, n2]: Factors,
  rank: number,
): Value {
  // A zero keeps a dimension as it is.
  const kept = Array<number>(rank - 1).fill(0)
  const op = (opType: string, role: string, inputs: Value[]) => g.op(opType, inputs, {}, { role })
  const matrix = op('Reshape', 'matrix', [x, g.ints([...kept, n1, n2])])
  const columns = op('MatMul', 'columns', [matrix, right])
  const rows = op('MatMul', 'mixed', [left, columns])
  return op('Reshape', 'transformed', [rows, g.ints([...kept, n1 * n2])])
}

/**
 * P^-1 w for a weight w [n1 * n2, N].
 * @param left inverse of the left factor, [n1, n1]. @param right inverse of the right one, [n2, n2]
 */
export function emitKroneckerWeight(g: Builder, w: Value, { left, right }: KroneckerValues, [n1, n2]: Factors): Value {
  const [K, N] = staticShape(w) as [number, number]
  const mixed = g.matMul(right, g.reshape(w, [n1, n2, N]))
  return g.reshape(g.matMul(left, g.reshape(mixed, [n1, n2 * N])), [K, N])
}
