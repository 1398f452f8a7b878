/** @file Rounding in programs: the same integers as Round, with the gradients the estimator defines. */

import { expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers, tensorOf } from '../../src/graph/tensor.ts'
import { roundToFloat16 } from '../../src/kernels/float16.ts'
import { castRoundSte, roundDetached, roundSte } from '../../src/kernels/round-ste.ts'
import { runGraph } from '../../src/kernels/session.ts'

type Emit = (g: Builder, x: Value) => Value

/** y = emit(x), and dx for a dy of 1, 2, 3, ... */
async function yAndDx(emit: Emit, numbers: readonly number[], dtype: 'float32' | 'float64' = 'float32') {
  const g = new Builder()
  const x = g.input('x', dtype, [numbers.length])
  const dy = g.input('dy', dtype, [numbers.length])
  const y = emit(g, x)
  g.output(y, 'y')
  // Where the gradient is dy itself, the output needs a name of its own.
  g.output(g.op('Identity', [gradients(g, new Map([[y, dy]]), [x]).get(x)!]), 'dx')
  const steps = numbers.map((_, i) => i + 1)
  const run = await runGraph(g.graph, {
    x: floatTensor([numbers.length], numbers, dtype),
    dy: floatTensor([numbers.length], steps, dtype),
  })
  return { y: readNumbers(run['y']!), dx: readNumbers(run['dx']!), dy: steps }
}

const TIES = [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 0.49999997, -1e6 - 0.25, 4194303.5, 0]

test.each(['float32', 'float64'] as const)(
  'roundSte rounds half to even and passes the gradient on in %s',
  async dtype => {
    const { y, dx, dy } = await yAndDx(roundSte, TIES, dtype)
    expect(y).toEqual([-4, -2, -2, 0, 0, 2, 2, 4, 0, -1e6, 4194304, 0])
    expect(dx).toEqual(dy)
  },
)

test('roundSte gives what Round gives on ten thousand numbers, whatever the optimizer does', async () => {
  const numbers = Float32Array.from({ length: 10_000 }, (_, i) => Math.sin(i) * 2 ** (i % 22))
  const g = new Builder()
  const x = g.input('x', 'float32', [numbers.length])
  g.output(g.op('Equal', [roundSte(g, x), g.op('Round', [x])]), 'same')
  const { same } = await runGraph(g.graph, { x: tensorOf('float32', [numbers.length], numbers) })
  expect(readNumbers(same!).every(bit => bit === 1)).toBe(true)
})

test('roundDetached rounds and has no gradient', async () => {
  const { y, dx } = await yAndDx(roundDetached, TIES)
  expect(y.slice(0, 4)).toEqual([-4, -2, -2, 0])
  expect(dx).toEqual(TIES.map(() => 0))
})

test('castRoundSte rounds to float16 and passes the gradient on unrounded', async () => {
  const numbers = [0.1, -1 / 3, 1000.3, 6e-5, 1e-9, 65519].map(Math.fround)
  const emit: Emit = (g, x) => castRoundSte(g, g.scale(x, 1), 'float16')
  const { y, dx, dy } = await yAndDx(emit, numbers)
  expect(y).toEqual(numbers.map(roundToFloat16))
  expect(dx).toEqual(dy)
  // A gradient too small for float16 must get through.
  const g = new Builder()
  const x = g.input('x', 'float32', [1])
  const rounded = castRoundSte(g, x, 'float16')
  const dx2 = gradients(g, new Map([[rounded, g.initializer('tiny', floatTensor([1], [1e-20]))]]), [x]).get(x)!
  g.output(g.op('Identity', [dx2]), 'dx')
  g.output(rounded, 'y')
  const run = await runGraph(g.graph, { x: floatTensor([1], [0.1]) })
  expect(readNumbers(run['dx']!)[0]).toBeCloseTo(1e-20, 25)
})

test('other types are refused', () => {
  const g = new Builder()
  expect(() => roundSte(g, g.input('x', 'int64', [1]))).toThrow('int64')
})
