/** @file Rows of logits: a log-sum-exp that does not overflow, draws that follow the distribution. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { drawToken, logSumExp } from '../../src/calibration/logits.ts'
import { Random } from '../../src/calibration/rng.ts'

test('log-sum-exp of a part of the row, shifted so that nothing overflows', () => {
  const row = Float32Array.of(99, 1000, 1000, -Infinity, 99)
  expect(logSumExp(row, 1, 3)).toBeCloseTo(1000 + Math.log(2), 10)
  fc.assert(
    fc.property(fc.array(fc.float({ min: -8, max: 8, noNaN: true }), { minLength: 1 }), values => {
      const direct = Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0))
      expect(logSumExp(Float32Array.from(values), 0, values.length)).toBeCloseTo(direct, 9)
    }),
  )
})

test.each([[[NaN, 1]], [[1, NaN]], [[Infinity, 1]], [[-Infinity, -Infinity]]])('refuses %j', values => {
  const row = Float32Array.from(values)
  expect(() => logSumExp(row, 0, 2)).toThrow(expect.objectContaining({ code: 'E_RUNTIME' }))
  expect(() => drawToken(row, 0, 2, new Random(0))).toThrow('not numbers')
})

/** Share of each token in 20 000 draws. */
function frequencies(logits: readonly number[], options = {}): number[] {
  const row = Float32Array.from([77, ...logits, 77])
  const random = new Random(1)
  const counts = new Array<number>(logits.length).fill(0)
  for (let i = 0; i < 20_000; i++) counts[drawToken(row, 1, logits.length, random, options)]!++
  return counts.map(count => count / 20_000)
}

const close = (found: readonly number[], expected: readonly number[]) =>
  found.forEach((frequency, i) => expect(Math.abs(frequency - expected[i]!)).toBeLessThan(0.015))

const [a, b, c] = [Math.log(0.5), Math.log(0.3), Math.log(0.2)]

test('draws follow softmax(logits / temperature)', () => {
  close(frequencies([a, -Infinity, b, c]), [0.5, 0, 0.3, 0.2])
  close(frequencies([a, b, c], { temperature: 0.5 }), [25 / 38, 9 / 38, 4 / 38])
})

test('top-k leaves out the unlikely', () => {
  close(frequencies([c, a, b], { topK: 2 }), [0, 0.625, 0.375])
  close(frequencies([c, a, b], { topK: 1 }), [0, 1, 0])
  close(frequencies([c, a, b], { topK: 9 }), [0.2, 0.5, 0.3])
})
