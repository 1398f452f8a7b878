/** @file The loss against plain TypeScript. */

import { expect, test } from 'vitest'
import { meanSquaredError } from '../../src/autodiff/loss.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { random } from '../helpers/check-vjp.ts'

test('meanSquaredError', async () => {
  const next = random(1)
  const draw = () => Array.from({ length: 24 }, () => Math.fround(4 * next() - 2))
  const [p, t] = [draw(), draw()]
  const g = new Builder()
  const { loss, gradient } = meanSquaredError(g, g.input('p', 'float32', [2, 3, 4]), g.input('t', 'float32', [2, 3, 4]))
  expect(loss).toMatchObject({ dtype: 'float32', shape: [] })
  g.output(loss, 'loss')
  g.output(gradient, 'gradient')
  const result = await runGraph(g.graph, { p: floatTensor([2, 3, 4], p), t: floatTensor([2, 3, 4], t) }, { threads: 1 })
  const expected = p.reduce((sum, value, i) => sum + (value - t[i]!) ** 2, 0) / 24
  expect(readNumbers(result.loss!)[0]).toBeCloseTo(expected, 5)
  expect(result.gradient!.dims).toEqual([2, 3, 4])
  readNumbers(result.gradient!).forEach((value, i) => expect(value).toBeCloseTo((2 / 24) * (p[i]! - t[i]!), 6))
})

test('meanSquaredError refuses shapes that differ', () => {
  const g = new Builder()
  const p = g.input('p', 'float32', [2, 3])
  expect(() => meanSquaredError(g, p, g.input('t', 'float32', [3]))).toThrow('expected [3]')
})
