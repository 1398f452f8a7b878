/** @file Ranges, scales and zero points: worked examples, groups that have nothing to measure, and what rescaling changes. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { dequantize, quantizeWeight } from '../../src/kernels/weights.ts'
import { roundToFloat16 } from '../../src/kernels/float16.ts'
import { affineQParams, roundHalfEven, type WeightQuantizer, weightRange } from '../../src/kernels/qparams.ts'
import { GRIDS, noise, weightCases, weightsOf } from './weights.ts'

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

  test.each([NaN, Infinity, -Infinity, 1e38, -3e18])('refuses %s, saying where it is', bad => {
    expect(() => weightRange(Float32Array.of(1, 2, 3, bad), 2, 2, 2)).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringContaining(`holds ${bad} at [1, 1]: `) }),
    )
  })
})

describe('affineQParams', () => {
  test('asymmetric: the range in 2^bits - 1 steps, zero rounded to one of them', () => {
    expect(qparams([-1, 2])).toEqual([Math.fround(3 / 15), 5])
    expect(qparams([-1, 2], { bits: 2 })).toEqual([1, 1])
    expect(qparams([-1, 2], { bits: 8 })).toEqual([Math.fround(3 / 255), 85])
  })

  test('symmetric: the greater end in 2^(bits-1) steps, zero in the middle, negative where hi is that end', () => {
    expect(qparams([-1, 4], { symmetric: true })).toEqual([-0.5, 8])
    expect(qparams([-4, 1], { symmetric: true })).toEqual([0.5, 8])
    expect(qparams([-1, 0.5], { symmetric: true, bits: 2 })).toEqual([0.5, 2])
    expect(qparams([-1, 2], { symmetric: true, bits: 8, scaleDtype: 'float16' })).toEqual([-(2 ** -6), 128])
  })

  test('symmetric: wider steps where the lesser end would be cut by more than half of one', () => {
    expect(qparams([-3.75, 4], { symmetric: true })).toEqual([-0.5, 8])
    expect(qparams([-3.9, 4], { symmetric: true })).toEqual([-Math.fround(Math.fround(3.9) / 7.5), 8])
    expect(qparams([-3, 3], { symmetric: true })).toEqual([Math.fround(0.4), 8])
    expect(qparams([-3, 3], { symmetric: true, bits: 2 })).toEqual([2, 2])
  })

  test('symmetric without a sign: the longer side stays below zero', () => {
    const positive = { symmetric: true, positiveScale: true }
    expect(qparams([-1, 3.75], positive)).toEqual([0.5, 8])
    expect(qparams([-4, 1], positive)).toEqual([0.5, 8])
    expect(qparams([-1, 0.375], { ...positive, bits: 2 })).toEqual([0.5, 2])
  })

  test('clip ratios shrink each side by itself, and never turn the sign', () => {
    expect(qparams([-2, 4], {}, { min: 0.5, max: 0.75 })).toEqual([Math.fround(4 / 15), 4])
    expect(qparams([-3.75, 4], { symmetric: true }, { min: 1, max: 0.25 })).toEqual([-0.5, 8])
    expect(qparams([-4, 3.75], { symmetric: true }, { min: 0.25, max: 1 })).toEqual([0.5, 8])
    expect(qparams([-4, 2], { symmetric: true }, { min: 0.75, max: 1 })).toEqual([0.375, 8])
  })

  test('float16 scales are rounded to what float16 holds, subnormal numbers too', () => {
    expect(qparams([-1, 2], { scaleDtype: 'float16' })).toEqual([roundToFloat16(0.2), 5])
    expect(qparams([3e-4, 0], { scaleDtype: 'float16' })).toEqual([roundToFloat16(2e-5), 0])
    // 2.1 times the least float16 is rounded up: the group's ends stay inside.
    expect(qparams([15 * 2.1 * 2 ** -24, 0], { scaleDtype: 'float16' })).toEqual([3 * 2 ** -24, 0])
    expect(qparams([1e-9, 0], { scaleDtype: 'float16' })).toEqual([2 ** -24, 0])
  })

  test.each<[string, number[], number, number]>([
    ['all zero', [0, 0], 2 ** -126, 0],
    ['all positive', [3, 4.5], Math.fround(0.3), 0],
    ['all negative', [-3, -4.5], Math.fround(0.3), 15],
    ['one weight', [-1.5], Math.fround(0.1), 15],
    ['tiny', [1.5e-30, -1.5e-30], Math.fround(2e-31), 8],
    ['subnormal', [1e-40, -1e-40], 2 ** -126, 0],
    ['huge', [2 ** 59, 0], Math.fround(2 ** 59 / 15), 0],
  ])('%s group: scale and zero point are numbers a file can hold', (_, w, scale, zeroPoint) => {
    expect(qparams(w)).toEqual([scale, zeroPoint])
  })

  test.each([{ bits: 1 }, { bits: 9 }, { bits: 3.5 }, { group: 0 }])('refuses %o', wrong => {
    expect(() => qparams([1, 2], wrong)).toThrow(expect.objectContaining({ code: 'E_SCHEME' }))
  })
})

describe('weights times 2^k', () => {
  const times = (w: Float32Array, k: number) => w.map(x => x * 2 ** k)

  test('have the same codes and zero points, and scales times 2^k', () => {
    fc.assert(
      fc.property(weightCases, fc.integer({ min: -80, max: 50 }), (given, k) => {
        const { K, N } = given
        const quantizer = { ...given.quantizer, scaleDtype: 'float32' } as const
        const [w, clip] = [weightsOf(given), noise(K * N, given.seed + 1).map(x => 0.55 + 0.45 * x)]
        const ratios = given.clipped ? { min: clip, max: clip.toReversed() } : undefined
        const expected = quantizeWeight(w, K, N, quantizer, ratios)
        const { scale, codes, zeroPoint } = quantizeWeight(times(w, k), K, N, quantizer, ratios)
        expect({ codes, zeroPoint }).toEqual({ codes: expected.codes, zeroPoint: expected.zeroPoint })
        expect(scale).toEqual(expected.scale.map(x => (Math.abs(x) === 2 ** -126 ? x : x * 2 ** k)))
      }),
    )
  })

  test('so have float16 scales, as long as these are normal', () => {
    const w = noise(64 * 4, 5)
    const quantizer: WeightQuantizer = { bits: 8, group: 16, symmetric: false, scaleDtype: 'float16' }
    const expected = quantizeWeight(w, 64, 4, quantizer)
    for (const k of [-5, 4, 12]) {
      const { scale, codes, zeroPoint } = quantizeWeight(times(w, k), 64, 4, quantizer)
      expect({ codes, zeroPoint }).toEqual({ codes: expected.codes, zeroPoint: expected.zeroPoint })
      expect(scale).toEqual(times(expected.scale, k))
    }
  })

  test('as small as float16 can hold come back within a step less than twice as wide, or exactly', () => {
    for (const bits of [2, 4, 8])
      for (let k = -7; k >= -24; k--)
        for (const grid of GRIDS) {
          const w = noise(256, 40 - k).map(x => roundToFloat16(x * 2 ** k))
          const quantizer: WeightQuantizer = { bits, group: 64, ...grid, scaleDtype: 'float16' }
          const wide = quantizeWeight(w, 64, 4, { ...quantizer, scaleDtype: 'float32' })
          const coarse = quantizeWeight(w, 64, 4, quantizer)
          const back = dequantize(coarse, 64, 4, 64)
          back.forEach((x, i) => {
            // Half a step inside, and half of one more at the ends, where the zero point is rounded or the scale down.
            const step = Math.max(Math.abs(wide.scale[i % 4]!) * 2, 2 ** -24)
            expect(Math.abs(x - w[i]!), `${bits} bits, 2^${k}`).toBeLessThanOrEqual(step)
            if (Math.abs(coarse.scale[i % 4]!) === 2 ** -24) expect(x + 0).toBe(w[i]! + 0)
          })
        }
  })
})

test('roundHalfEven', () => {
  expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.6, 1e30].map(roundHalfEven)).toEqual([-2, -2, 0, 0, 2, 2, 3, 1e30])
})
