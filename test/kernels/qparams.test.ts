/** @file Ranges, scales and zero points: worked examples, and groups that have nothing to measure. */

import { describe, expect, test } from 'vitest'
import { roundToFloat16 } from '../../src/kernels/float16.ts'
import { affineQParams, roundHalfEven, type WeightQuantizer, weightRange } from '../../src/kernels/qparams.ts'

const quantizer = (given: Partial<WeightQuantizer> = {}): WeightQuantizer => ({
  bits: 4,
  group: 4,
  symmetric: false,
  scaleDtype: 'float32',
  ...given,
})

/** Scale and zero point of one column of weights. */
const qparams = (w: number[], given: Partial<WeightQuantizer> = {}, clip?: { min: number; max: number }) => {
  const range = weightRange(Float32Array.from(w), w.length, 1, w.length)
  const ratios = clip && { min: Float32Array.of(clip.min), max: Float32Array.of(clip.max) }
  const { scale, zeroPoint } = affineQParams(range, quantizer(given), ratios)
  return [scale[0], zeroPoint[0]]
}

describe('weightRange', () => {
  test('is per group and column, with zero always inside and a shorter last group', () => {
    // w [3, 2], groups of 2 along K.
    const { lo, hi } = weightRange(Float32Array.of(1, -1, 2, -3, 5, 0.5), 3, 2, 2)
    expect([...lo]).toEqual([0, -3, 0, 0])
    expect([...hi]).toEqual([2, 0, 5, 0.5])
  })

  test.each([NaN, Infinity, -Infinity])('refuses %s, saying where it is', bad => {
    expect(() => weightRange(Float32Array.of(1, 2, 3, bad), 2, 2, 2)).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringContaining(`${bad} at [1, 1]`) }),
    )
  })
})

describe('affineQParams', () => {
  test('asymmetric: the range in 2^bits - 1 steps, zero rounded to one of them', () => {
    expect(qparams([-1, 2])).toEqual([Math.fround(3 / 15), 5])
    expect(qparams([-1, 2], { bits: 2 })).toEqual([1, 1])
    expect(qparams([-1, 2], { bits: 8 })).toEqual([Math.fround(3 / 255), 85])
  })

  test('symmetric: the greater side in 2^(bits-1) - 1 steps, zero in the middle', () => {
    expect(qparams([-1, 3.5], { symmetric: true })).toEqual([0.5, 8])
    expect(qparams([-3.5, 1], { symmetric: true })).toEqual([0.5, 8])
    expect(qparams([-1, 0.5], { symmetric: true, bits: 2 })).toEqual([1, 2])
  })

  test('clip ratios shrink each side by itself', () => {
    expect(qparams([-2, 4], {}, { min: 0.5, max: 0.75 })).toEqual([Math.fround(4 / 15), 4])
    expect(qparams([-2, 4], { symmetric: true }, { min: 1, max: 0.25 })).toEqual([Math.fround(2 / 7), 8])
  })

  test('float16 scales are rounded to what float16 holds, subnormal numbers too', () => {
    expect(qparams([-1, 2], { scaleDtype: 'float16' })).toEqual([roundToFloat16(0.2), 5])
    expect(qparams([1e-6, 0], { scaleDtype: 'float16' })).toEqual([roundToFloat16(1e-5), 0])
  })

  test.each<[string, number[], number, number]>([
    ['all zero', [0, 0], Math.fround(1e-5), 0],
    ['all positive', [3, 4.5], Math.fround(0.3), 0],
    ['all negative', [-3, -4.5], Math.fround(0.3), 15],
    ['one weight', [-1.5], Math.fround(0.1), 15],
    ['tiny', [1e-30, -1e-30], Math.fround(1e-5), 0],
    ['huge', [3e38, -3e38], 1e4, 15],
  ])('%s group: scale and zero point are numbers a file can hold', (_, w, scale, zeroPoint) => {
    expect(qparams(w)).toEqual([scale, zeroPoint])
  })

  test.each([{ bits: 1 }, { bits: 9 }, { bits: 3.5 }, { group: 0 }])('refuses %o', wrong => {
    expect(() => qparams([1, 2], wrong)).toThrow(expect.objectContaining({ code: 'E_SCHEME' }))
  })
})

test('roundHalfEven', () => {
  expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.6, 1e30].map(roundHalfEven)).toEqual([-2, -2, 0, 0, 2, 2, 3, 1e30])
})
