/** @file Figures of an evaluation against their definitions, written out plainly. */

import { expect, test } from 'vitest'
import {
  divergenceAt,
  lossAt,
  meanOverWindows,
  quantile,
  summarizeDivergence,
  type WindowLogits,
} from '../../src/calibration/measures.ts'

/** Rows behind three numbers that belong to another window. */
function windowOf(rows: readonly (readonly number[])[]): WindowLogits {
  return { logits: Float32Array.from([9, 9, 9, ...rows.flat()]), start: 3, vocabulary: rows[0]!.length }
}

const softmax = (row: readonly number[]): number[] => {
  const weights = row.map(Math.exp)
  const sum = weights.reduce((a, b) => a + b)
  return weights.map(weight => weight / sum)
}

test('the loss is -log of the probability', () => {
  const rows = [
    [0, 1, 2, 3],
    [-1, 0.5, 0.25, 2],
  ]
  rows.forEach((row, position) =>
    row.forEach((_, token) =>
      expect(lossAt(windowOf(rows), position, token)).toBeCloseTo(-Math.log(softmax(row)[token]!), 12),
    ),
  )
})

test('the divergence is sum p log(p / q), not the other way round', () => {
  const p = [0.5, 2, -1, 0.25]
  const q = [1.5, 1, -3, 0]
  const [ps, qs] = [softmax(p), softmax(q)]
  const kl = ps.reduce((sum, each, i) => sum + each * Math.log(each / qs[i]!), 0)
  const other = qs.reduce((sum, each, i) => sum + each * Math.log(each / ps[i]!), 0)
  expect(Math.abs(kl - other)).toBeGreaterThan(0.01)
  const { kl: measured, sameTop } = divergenceAt(windowOf([[0, 0, 0, 0], p]), windowOf([[0, 0, 0, 0], q]), 1)
  expect(measured).toBeCloseTo(kl, 12)
  expect(sameTop).toBe(false)
})

test('equal distributions, shifted logits, tokens that are excluded, ties', () => {
  const at = (p: number[], q: number[]) => divergenceAt(windowOf([p]), windowOf([q]), 0)
  expect(at([1, 2, 3], [1, 2, 3])).toEqual({ kl: 0, sameTop: true })
  expect(at([1, 2, 3], [101, 102, 103]).kl).toBeCloseTo(0, 12)
  expect(at([0, 0, -Infinity], [0, 0, -Infinity]).kl).toBe(0)
  expect(at([0, 0, -Infinity], [0, 0, 0]).kl).toBeCloseTo(Math.log(3 / 2), 12)
  expect(at([0, 0, 0], [0, 0, -Infinity]).kl).toBe(Infinity)
  expect(at([5, 5, 0], [5, 4, 0]).sameTop).toBe(true)
  expect(at([5, 5, 0], [4, 5, 0]).sameTop).toBe(false)
  expect(() => at([NaN, 1], [0, 1])).toThrow(expect.objectContaining({ code: 'E_RUNTIME' }))
})

test('the standard error of windows of one length is that of their means; longer windows count more', () => {
  const means = [1, 2, 4, 1.5]
  const m = 8.5 / 4
  const deviation = Math.sqrt(means.reduce((sum, each) => sum + (each - m) ** 2, 0) / 3)
  const result = meanOverWindows(
    means.map(each => 7 * each),
    [7, 7, 7, 7],
  )
  expect(result.mean).toBeCloseTo(m, 12)
  expect(result.error).toBeCloseTo(deviation / 2, 12)
  expect(meanOverWindows([6, 1], [3, 1]).mean).toBe(7 / 4)
  expect(meanOverWindows([6], [3])).toEqual({ mean: 2, error: NaN })
})

test('the error of windows of different lengths covers the truth as often as it says', () => {
  // Losses of +-1 and of windows of 1 to 4 tokens, from a small generator: the mean is 0.
  let state = 12345
  const random = () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31
  let within = 0
  const trials = 2000
  for (let trial = 0; trial < trials; trial++) {
    const counts = Array.from({ length: 60 }, () => 1 + Math.floor(random() * 4))
    const sums = counts.map(count => count * (random() < 0.5 ? -1 : 1))
    const { mean, error } = meanOverWindows(sums, counts)
    if (Math.abs(mean) < error) within++
  }
  expect(within / trials).toBeGreaterThan(0.64)
  expect(within / trials).toBeLessThan(0.72)
})

test('quantiles are interpolated', () => {
  expect(quantile([1, 2, 3, 10], 0.5)).toBe(2.5)
  expect(quantile([1, 2, 3], 0.5)).toBe(2)
  expect(quantile([0, 100], 0.99)).toBeCloseTo(99, 12)
  expect(quantile([1, Infinity, Infinity], 0.9)).toBe(Infinity)
  expect(quantile([4], 0.99)).toBe(4)
})

test('a summary of positions', () => {
  const summary = summarizeDivergence(Float64Array.of(4, 0, 2, 2), [4, 4], [1, 2], [2, 2])
  expect(summary).toMatchObject({ klMean: 2, klMeanError: 0, klMedian: 2, sameTop: 0.75, sameTopError: 0.25 })
  expect(summary.kl99).toBeCloseTo(3.94, 12)
})
