/** @file Histograms of activations, and the ranges that are chosen from them. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ActivationHistogram } from '../../src/kernels/activation-histogram.ts'
import { chooseRange, quantizationError, RANGE_CHOICES } from '../../src/kernels/choose-range.ts'
import { fakeQuantizeRange, type RangeQuantizer, rangeSteps } from '../../src/kernels/static-range.ts'
import { noise } from './weights.ts'

const A8: RangeQuantizer = { kind: 'static', bits: 8 }

function histogramOf(...parts: readonly Float32Array[]): ActivationHistogram {
  const histogram = new ActivationHistogram()
  for (const part of parts) histogram.add(part)
  return histogram
}

/** Bell-shaped numbers around 0, sums of twelve even ones. */
const bell = (count: number): Float32Array => {
  const parts = Array.from({ length: 12 }, (_, i) => noise(count, i + 1))
  return Float32Array.from({ length: count }, (_, i) => parts.reduce((sum, part) => sum + part[i]!, 0) / 2)
}

describe('a histogram', () => {
  test('has every number in a bin around it, in order, and no wider than 2^-7 of it', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1 }), list => {
        const numbers = Float32Array.from(list)
        const histogram = histogramOf(numbers)
        const bins = histogram.bins()
        expect(bins.reduce((sum, { count }) => sum + count, 0)).toBe(numbers.length)
        expect(histogram.min).toBe(Math.min(...numbers) + 0)
        expect(histogram.max).toBe(Math.max(...numbers) + 0)
        bins.forEach(({ low, high }, i) => {
          expect(low).toBeLessThanOrEqual(high)
          if (i > 0) expect(low).toBeGreaterThanOrEqual(bins[i - 1]!.high)
          const greatest = Math.max(-low, high)
          if (greatest > 2 ** -126) expect(high - low).toBeLessThanOrEqual(greatest * 2 ** -7)
        })
        for (const x of numbers) expect(bins.some(({ low, high }) => low <= x && x <= high)).toBe(true)
      }),
    )
  })

  test('does not depend on the order or the parts in which numbers come', () => {
    const numbers = bell(1000)
    const whole = histogramOf(numbers).bins()
    expect(histogramOf(numbers.slice().reverse()).bins()).toEqual(whole)
    expect(histogramOf(numbers.subarray(0, 100), numbers.subarray(100)).bins()).toEqual(whole)
  })
})

describe('the error of a range', () => {
  test.each([
    ['that holds all', { lo: -6, hi: 6 }],
    ['that clips', { lo: -0.5, hi: 1 }],
    ['of one side', { lo: 0, hi: 2 }],
  ])('%s is that of the quantizer', (_, range) => {
    const numbers = bell(20_000)
    const y = fakeQuantizeRange(numbers, { ...A8, ...rangeSteps(range, A8) })
    const error = numbers.reduce((sum, x, i) => sum + (x - y[i]!) ** 2, 0)
    expect(quantizationError(histogramOf(numbers).bins(), range, A8) / error).toBeCloseTo(1, 1)
  })

  test('of equal numbers is theirs', () => {
    const bins = histogramOf(new Float32Array(10).fill(0.3)).bins()
    expect(quantizationError(bins, { lo: 0, hi: 255 }, A8)).toBeCloseTo(10 * 0.09, 6)
    expect(quantizationError(bins, { lo: 0, hi: 0 }, A8)).toBeCloseTo(10 * 0.09, 6)
  })
})

describe('the range', () => {
  const numbers = bell(50_000)
  numbers[7] = 100
  numbers[9] = -30

  test('minmax holds all numbers', () => {
    expect(chooseRange(histogramOf(numbers), 'minmax', A8)).toEqual({ lo: -30, hi: 100 })
  })

  test('percentile leaves out one of ten thousand at either side', () => {
    const { lo, hi } = chooseRange(histogramOf(numbers), 'percentile', A8)
    const [below, above] = [numbers.filter(x => x < lo).length, numbers.filter(x => x > hi).length]
    for (const outside of [below, above]) {
      expect(outside).toBeGreaterThanOrEqual(3)
      expect(outside).toBeLessThanOrEqual(7)
    }
  })

  test('mse has less error than the others, and than its neighbours', () => {
    const histogram = histogramOf(numbers)
    const bins = histogram.bins()
    const errorOf = (range: { lo: number; hi: number }) => quantizationError(bins, range, A8)
    const range = chooseRange(histogram, 'mse', A8)
    for (const choice of RANGE_CHOICES)
      expect(errorOf(range)).toBeLessThanOrEqual(errorOf(chooseRange(histogram, choice, A8)) * (1 + 1e-6))
    for (const factor of [0.96, 1.04]) {
      expect(errorOf(range)).toBeLessThan(errorOf({ ...range, hi: range.hi * factor }))
      expect(errorOf(range)).toBeLessThan(errorOf({ ...range, lo: range.lo * factor }))
    }
  })

  test.each(RANGE_CHOICES)('%s: zero is inside, and numbers of one sign have one bound', choice => {
    const positive = numbers.map(x => Math.abs(x) + 1)
    expect(chooseRange(histogramOf(positive), choice, A8).lo).toBe(0)
    const { lo, hi } = chooseRange(histogramOf(positive.map(x => -x)), choice, A8)
    expect(hi).toBe(0)
    expect(lo).toBeLessThan(-1)
    expect(chooseRange(histogramOf(new Float32Array(9)), choice, A8)).toEqual({ lo: 0, hi: 0 })
    expect(chooseRange(new ActivationHistogram(), choice, A8)).toEqual({ lo: 0, hi: 0 })
  })
})
