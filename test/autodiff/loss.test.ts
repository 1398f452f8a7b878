/** @file The loss against plain TypeScript. */

import { expect, test } from 'vitest'
import { klDivergence, meanSquaredError } from '../../src/autodiff/loss.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, readNumbers, tensorOf } from '../../src/graph/tensor.ts'
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

/** Mean over rows of KL(softmax(target) || softmax(prediction)), in float64. */
function divergence(prediction: readonly number[], target: readonly number[], width: number): number {
  let sum = 0
  for (let row = 0; row < prediction.length; row += width) {
    const logSoftmax = (logits: readonly number[]) => {
      const part = logits.slice(row, row + width)
      const top = Math.max(...part)
      const log = top + Math.log(part.reduce((total, x) => total + Math.exp(x - top), 0))
      return part.map(x => x - log)
    }
    const [q, p] = [logSoftmax(prediction), logSoftmax(target)]
    p.forEach((log, i) => (sum += Math.exp(log) * (log - q[i]!)))
  }
  return (sum * width) / prediction.length
}

test('klDivergence: value, and gradient against finite differences in float64', async () => {
  const next = random(2)
  const draw = () => Array.from({ length: 24 }, () => 8 * next() - 4)
  const [p, t] = [draw(), draw()]
  const g = new Builder()
  const { loss, gradient } = klDivergence(g, g.input('p', 'float64', [2, 3, 4]), g.input('t', 'float64', [2, 3, 4]))
  g.output(loss, 'loss')
  g.output(gradient, 'gradient')
  const tensor = (values: readonly number[]) => tensorOf('float64', [2, 3, 4], Float64Array.from(values))
  const result = await runGraph(g.graph, { p: tensor(p), t: tensor(t) }, { threads: 1 })
  expect(readNumbers(result.loss!)[0]).toBeCloseTo(divergence(p, t, 4), 12)
  expect(result.gradient!.dims).toEqual([2, 3, 4])
  readNumbers(result.gradient!).forEach((value, i) => {
    const moved = (step: number) => p.map((x, j) => (j === i ? x + step : x))
    const slope = (divergence(moved(1e-5), t, 4) - divergence(moved(-1e-5), t, 4)) / 2e-5
    expect(value).toBeCloseTo(slope, 8)
  })
})

test('klDivergence of logits beyond the range of exp', async () => {
  const g = new Builder()
  const { loss } = klDivergence(g, g.input('p', 'float32', [1, 2]), g.input('t', 'float32', [1, 2]))
  g.output(loss, 'loss')
  const result = await runGraph(g.graph, { p: floatTensor([1, 2], [0, 300]), t: floatTensor([1, 2], [300, 0]) })
  expect(readNumbers(result.loss!)[0]).toBeCloseTo(300, 3)
})
