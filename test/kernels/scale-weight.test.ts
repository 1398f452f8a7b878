/** @file Gradients of a scaled weight in float64 against finite differences, with either factor and with both. */

import { expect, test } from 'vitest'
import type { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { floatTensor } from '../../src/graph/tensor.ts'
import { emitScaledWeight } from '../../src/kernels/scale-weight.ts'
import { checkVjp, vjpFailure, type VjpSpec } from '../helpers/check-vjp.ts'

const [K, N] = [5, 7]
const numbers = (count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.sin(seed + 2.3 * i))

/** A curved function of the weight, so that the gradient that arrives differs from element to element. */
function curved(g: Builder, rows: Value | undefined, columns: Value | undefined): Value {
  const w = g.initializer('w', floatTensor([K, N], numbers(K * N, 3), 'float64'))
  const y = emitScaledWeight(g, w, rows, columns)
  return g.mul(y, y)
}

const factor = (length: number) => ({ shape: [length], range: [0.5, 2] as const })
const specs: VjpSpec[] = [
  { kind: 'scale', name: 'rows', inputs: [factor(K)], build: (g, rows) => curved(g, rows, undefined) },
  { kind: 'scale', name: 'columns', inputs: [factor(N)], build: (g, columns) => curved(g, undefined, columns) },
  {
    kind: 'scale',
    name: 'both',
    inputs: [factor(K), factor(N)],
    build: (g, rows, columns) => curved(g, rows, columns),
  },
]

test('gradients of row and column factors', async () => {
  const reports = await checkVjp(specs)
  expect(reports.length).toBe(3)
  expect(reports.map(vjpFailure)).toEqual([undefined, undefined, undefined])
})
