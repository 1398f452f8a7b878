/** @file Losses against plain TypeScript, torch and finite differences. */

import { expect, test } from 'vitest'
import { crossEntropy, meanSquaredError } from '../../src/autodiff/loss.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, int64Tensor, readNumbers } from '../../src/graph/tensor.ts'
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

async function runCrossEntropy(logits: number[][], labels: number[]) {
  const [tokens, vocabulary] = [logits.length, logits[0]!.length]
  const g = new Builder()
  const { loss, gradient } = crossEntropy(
    g,
    g.input('logits', 'float32', [tokens, vocabulary]),
    g.input('labels', 'int64', [tokens]),
  )
  g.output(loss, 'loss')
  g.output(gradient, 'gradient')
  const feeds = { logits: floatTensor([tokens, vocabulary], logits.flat()), labels: int64Tensor([tokens], labels) }
  const result = await runGraph(g.graph, feeds, { threads: 1 })
  expect(result.loss!.dims).toEqual([])
  return { loss: readNumbers(result.loss!)[0]!, gradient: readNumbers(result.gradient!) }
}

test('crossEntropy is what torch 2.13 computes, large logits included', async () => {
  const logits = [
    [1, 2, 3, -1],
    [0.5, 0, -0.5, 100],
    [0, 0, 0, 0],
  ]
  const { loss, gradient } = await runCrossEntropy(logits, [2, 0, 3])
  // torch.nn.functional.cross_entropy on the same numbers, float32
  const expected = [
    [0.02964894101023674, 0.08059418201446533, -0.11425566673278809, 0.004012546967715025],
    [-0.3333333432674408, 0, 0, 0.3333333432674408],
    [0.0833333358168602, 0.0833333358168602, 0.0833333358168602, -0.25],
  ].flat()
  expect(loss).toBeCloseTo(33.76866912841797, 5)
  expected.forEach((value, i) => expect(Math.abs(gradient[i]! - value)).toBeLessThan(1e-7))
})

test('crossEntropy is what plain TypeScript computes', async () => {
  const next = random(2)
  const logits = Array.from({ length: 5 }, () => Array.from({ length: 7 }, () => Math.fround(20 * next() - 10)))
  const labels = logits.map(() => Math.floor(7 * next()))
  const { loss, gradient } = await runCrossEntropy(logits, labels)
  const softmax = logits.map(row => {
    const sum = row.reduce((total, value) => total + Math.exp(value), 0)
    return row.map(value => Math.exp(value) / sum)
  })
  const expected = labels.reduce((sum, label, t) => sum - Math.log(softmax[t]![label]!), 0) / 5
  expect(loss).toBeCloseTo(expected, 5)
  softmax.forEach((row, t) =>
    row.forEach((value, j) => {
      expect(Math.abs(gradient[t * 7 + j]! - (value - (j === labels[t] ? 1 : 0)) / 5)).toBeLessThan(3e-7)
    }),
  )
})
