/** @file The activation quantizer: what it promises, that the graph computes the same bits, and its gradients in float64. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { emitExtremes } from '../../src/kernels/extremes.ts'
import type { Rounding } from '../../src/kernels/round-ste.ts'
import { emitProduct } from '../../src/kernels/steps.ts'
import {
  type ActivationQuantizer,
  emitFakeQuantizeTokens,
  emitTokenCodes,
  fakeQuantizeTokens,
} from '../../src/kernels/tokens.ts'
import { FLOAT32_SCALES, roundHalfEven } from '../../src/kernels/qparams.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { noise } from './weights.ts'

interface TokenCase {
  readonly tokens: number
  /** Groups of a token. */
  readonly heads: number
  /** Numbers that share a scale. */
  readonly size: number
  readonly quantizer: ActivationQuantizer
  readonly seed: number
}

const quantizers: fc.Arbitrary<ActivationQuantizer> = fc.record({
  bits: fc.integer({ min: 2, max: 8 }),
  symmetric: fc.boolean(),
})

const tokenCases: fc.Arbitrary<TokenCase> = fc.record({
  tokens: fc.integer({ min: 1, max: 6 }),
  heads: fc.constantFrom(1, 2, 3),
  size: fc.constantFrom(1, 2, 7, 64, 160),
  quantizer: quantizers,
  seed: fc.integer({ min: 1, max: 1e6 }),
})

/** Kinds of rows by turns: plain, zeros, equal numbers, ties, one-sided either way, rectified, tiny, with an outlier. */
function activationsOf({ tokens, heads, size, seed }: TokenCase): Float32Array {
  return noise(tokens * heads * size, seed).map((x, i) => {
    const row = Math.floor(i / size) + seed
    const kinds = [
      x,
      0,
      1 + (row % 5),
      Math.round(x * 4) / 2,
      x + 3,
      x - 3,
      Math.max(x, 0),
      x * 1e-7,
      i % size === 3 ? 100 * x : x,
    ]
    return kinds[row % kinds.length]!
  })
}

/** Result of the graph for x, and the gradient for dy. */
async function byGraph(
  { tokens, heads, size, quantizer }: TokenCase,
  x: ArrayLike<number>,
  dy: ArrayLike<number>,
  dtype: 'float32' | 'float64',
): Promise<{ y: number[]; dx: number[] }> {
  const dims = [1, tokens, heads * size]
  const g = new Builder()
  const input = g.input('x', dtype, dims)
  const seed = g.input('dy', dtype, dims)
  const y = emitFakeQuantizeTokens(g, input, quantizer, heads === 1 ? undefined : size)
  expect(y.shape).toEqual(dims)
  g.output(y, 'y')
  g.output(gradients(g, new Map([[y, seed]]), [input]).get(input)!, 'dx')
  const feeds = { x: floatTensor(dims, Array.from(x), dtype), dy: floatTensor(dims, Array.from(dy), dtype) }
  const result = await runGraph(g.graph, feeds, { threads: 1 })
  return { y: readNumbers(result['y']!), dx: readNumbers(result['dx']!) }
}

const positiveZero = (numbers: ArrayLike<number>) => Array.from(numbers, x => x + 0)

describe('the graph gives the definition’s numbers, bit for bit', () => {
  const compare = async (given: TokenCase, x: Float32Array) => {
    const { y } = await byGraph(given, x, x, 'float32')
    expect(positiveZero(y)).toEqual(positiveZero(fakeQuantizeTokens(x, given.size, given.quantizer)))
  }

  test('for random activations, bits and heads', async () => {
    await fc.assert(
      fc.asyncProperty(tokenCases, async given => compare(given, activationsOf(given))),
      { numRuns: 60 },
    )
  })

  test('with ratios of the range', async () => {
    const x = activationsOf({ tokens: 9, heads: 1, size: 64, quantizer: { bits: 4, symmetric: false }, seed: 5 })
    const ratios = { min: Math.fround(0.7), max: Math.fround(0.9) }
    for (const symmetric of [false, true]) {
      const g = new Builder()
      const shares = { min: g.scalar(ratios.min), max: g.scalar(ratios.max) }
      g.output(emitFakeQuantizeTokens(g, g.input('x', 'float32', [9, 64]), { bits: 4, symmetric }, 64, shares), 'y')
      const { y } = await runGraph(g.graph, { x: floatTensor([9, 64], x) }, { threads: 1 })
      const wanted = fakeQuantizeTokens(x, 64, { bits: 4, symmetric, ratios })
      expect(positiveZero(readNumbers(y!))).toEqual(positiveZero(wanted))
      expect(wanted).not.toEqual(fakeQuantizeTokens(x, 64, { bits: 4, symmetric }))
    }
  })

  test.each<[string, number[]]>([
    ['zeros', [0, 0, 0, 0]],
    ['positive', [1, 2, 3, 4]],
    ['negative', [-1, -2, -3, -4]],
    ['equal', [2.5, 2.5, 2.5, 2.5]],
    ['tiny', [1e-30, -1e-38, 1e-45, 0]],
    ['large', [1e6, -3e5, 12345, 1]],
    ['huge', [3e38, -3e38, 1e30, 1]],
  ])('for tokens of %s numbers', async (_, x) => {
    for (const symmetric of [false, true])
      for (const bits of [2, 4, 8])
        await compare({ tokens: 1, heads: 1, size: 4, quantizer: { bits, symmetric }, seed: 1 }, Float32Array.from(x))
  })
})

describe('the two ways to round, of the user’s graph and of programs,', () => {
  /** y and dx of x [rows, C], with codes written the way of the user's graph (Round) or of a program (addition). */
  async function byRounding(
    rounding: Rounding,
    quantizer: ActivationQuantizer,
    x: Float32Array,
    dy: Float32Array,
  ): Promise<{ y: number[]; dx: number[] }> {
    const dims = [x.length / 64, 64]
    const g = new Builder()
    const input = g.input('x', 'float32', dims)
    const seed = g.input('dy', 'float32', dims)
    const { lo, hi } = emitExtremes(g, input)
    const column = (value: Value) => g.reshape(value, [dims[0]!, 1])
    const extremes = { lo: column(lo), hi: column(hi) }
    const y = emitProduct(g, emitTokenCodes(g, input, extremes, quantizer, rounding))
    g.output(y, 'y')
    g.output(gradients(g, new Map([[y, seed]]), [input]).get(input)!, 'dx')
    const result = await runGraph(g.graph, { x: floatTensor(dims, x), dy: floatTensor(dims, dy) }, { threads: 1 })
    return { y: readNumbers(result['y']!), dx: readNumbers(result['dx']!) }
  }

  test('give equal numbers and equal gradients', async () => {
    await fc.assert(
      fc.asyncProperty(quantizers, fc.integer({ min: 1, max: 1e6 }), async (quantizer, seed) => {
        const x = activationsOf({ tokens: 9, heads: 1, size: 64, quantizer, seed })
        const dy = noise(x.length, seed + 1)
        const [user, program] = [
          await byRounding('operator', quantizer, x, dy),
          await byRounding('addition', quantizer, x, dy),
        ]
        expect(positiveZero(user.y)).toEqual(positiveZero(program.y))
        expect(positiveZero(user.dx)).toEqual(positiveZero(program.dx))
      }),
      { numRuns: 20 },
    )
  })
})

describe('fakeQuantizeTokens', () => {
  const scaleOf = (token: Float32Array, { bits, symmetric }: ActivationQuantizer) => {
    const max = Math.max(0, ...token)
    const min = Math.min(0, ...token)
    const scale = symmetric ? Math.max(max, -min) / (2 ** (bits - 1) - 1) : (max - min) / (2 ** bits - 1)
    return Math.max(scale, FLOAT32_SCALES[0])
  }

  test('errs by half a step inside the range, by one at most, and keeps zero', () => {
    fc.assert(
      fc.property(tokenCases, given => {
        const { quantizer, size } = given
        const x = activationsOf(given)
        const y = fakeQuantizeTokens(x, size, quantizer)
        for (let first = 0; first < x.length; first += size) {
          const token = x.subarray(first, first + size)
          const scale = scaleOf(token, quantizer)
          const back = y.subarray(first, first + size)
          const ends = [Math.max(...back), Math.min(...back)]
          token.forEach((value, i) => {
            // The last code may stand for less than the maximum when the zero point was rounded.
            const allowed = quantizer.symmetric || !ends.includes(back[i]!) ? scale / 2 : scale
            expect(Math.abs(back[i]! - value)).toBeLessThanOrEqual(allowed * (1 + 1e-4))
            if (value === 0) expect(back[i]! + 0).toBe(0)
          })
        }
      }),
      { numRuns: 100 },
    )
  })

  test('gives every token 2^bits numbers at most, and numbers on its grid back as they are', () => {
    fc.assert(
      fc.property(quantizers, fc.integer({ min: 1, max: 1e6 }), (quantizer, seed) => {
        const y = fakeQuantizeTokens(noise(512, seed), 512, quantizer)
        expect(new Set(y).size).toBeLessThanOrEqual(2 ** quantizer.bits)
        // Whole numbers that use the whole range: the scale is 1.
        const top = 2 ** quantizer.bits - 1
        const grid = Float32Array.from({ length: 2 ** quantizer.bits - 1 }, (_, i) => i + 1 - 2 ** (quantizer.bits - 1))
        const whole = quantizer.symmetric ? grid : Float32Array.of(...grid, grid[0]! + top)
        expect(positiveZero(fakeQuantizeTokens(whole, whole.length, quantizer))).toEqual(positiveZero(whole))
      }),
    )
  })

  test('of a token times 2^k gives 2^k times as much', () => {
    fc.assert(
      fc.property(tokenCases, fc.integer({ min: -80, max: 80 }), (given, k) => {
        const x = activationsOf(given)
        const times = (values: Float32Array) => values.map(value => value * 2 ** k)
        const y = fakeQuantizeTokens(times(x), given.size, given.quantizer)
        expect(positiveZero(y)).toEqual(positiveZero(times(fakeQuantizeTokens(x, given.size, given.quantizer))))
      }),
    )
  })

  test('treats tokens apart: an outlier spoils its own only', () => {
    const x = noise(128, 4)
    const quantizer = { bits: 4, symmetric: false }
    const before = fakeQuantizeTokens(x, 64, quantizer)
    x[70] = 1000
    expect(fakeQuantizeTokens(x, 64, quantizer).subarray(0, 64)).toEqual(before.subarray(0, 64))
  })
})

/** The definition: rounding passes gradients on, the clamp strictly inside, the zero point none, extremes share theirs. */
function byHand({ size, quantizer: { bits, symmetric } }: TokenCase, x: readonly number[], dy: readonly number[]) {
  const top = 2 ** bits - 1
  const steps = symmetric ? 2 ** (bits - 1) - 1 : top
  const dx = Array<number>(x.length).fill(0)
  let clamped = 0
  for (let first = 0; first < x.length; first += size) {
    const members = Array.from({ length: size }, (_, i) => first + i)
    const max = Math.max(0, ...members.map(at => x[at]!))
    const min = Math.min(0, ...members.map(at => x[at]!))
    const raw = (symmetric ? Math.max(max, -min) : max - min) / steps
    const [least, most] = FLOAT32_SCALES
    const scale = Math.min(Math.max(raw, least), most)
    const zeroPoint = symmetric ? 2 ** (bits - 1) : roundHalfEven(-min / scale)
    let dScale = 0
    for (const at of members) {
      const unclamped = roundHalfEven(x[at]! / scale) + zeroPoint
      const inside = unclamped > 0 && unclamped < top
      const code = Math.min(Math.max(unclamped, 0), top)
      dScale += dy[at]! * (code - zeroPoint - (inside ? x[at]! / scale : 0))
      if (inside) dx[at]! += dy[at]!
      else clamped++
    }
    if (raw <= least || raw >= most) continue
    const part = (mine: number, other: number) => (!symmetric || mine > other ? 1 : mine === other ? 0.5 : 0)
    for (const [extreme, gradient] of [
      [max, (dScale / steps) * part(max, -min)],
      [min, (-dScale / steps) * part(-min, max)],
    ] as const) {
      const sharing = members.filter(at => x[at] === extreme)
      if (extreme !== 0) for (const at of sharing) dx[at]! += gradient / sharing.length
    }
  }
  return { dx, clamped }
}

describe('the gradient', () => {
  test('is that of the definition', async () => {
    let clamped = 0
    await fc.assert(
      fc.asyncProperty(tokenCases, async given => {
        const x = [...activationsOf(given)]
        const dy = [...noise(x.length, given.seed + 7)]
        const expected = byHand(given, x, dy)
        const { dx } = await byGraph(given, x, dy, 'float64')
        const size = Math.max(1, ...expected.dx.map(Math.abs))
        for (const [i, value] of dx.entries()) expect(Math.abs(value - expected.dx[i]!) / size).toBeLessThan(1e-9)
        clamped += expected.clamped
      }),
      { numRuns: 60 },
    )
    expect(clamped).toBeGreaterThan(100)
  })

  test.each([false, true])(
    'is the slope of the quantizer with its rounding held fixed; symmetric %s',
    async symmetric => {
      const given: TokenCase = { tokens: 3, heads: 2, size: 64, quantizer: { bits: 4, symmetric }, seed: 1 }
      // Plain noise: extremes are reached once, so slopes exist.
      const x = [...noise(384, 31)]
      const dy = [...noise(384, 32)]
      const direction = noise(384, 33)
      const scaleAt = (x: readonly number[], i: number) => {
        const token = x.slice(i - (i % 64), i - (i % 64) + 64)
        return symmetric ? Math.max(...token.map(Math.abs)) / 7 : (Math.max(...token) - Math.min(...token)) / 15
      }
      const pieces = x.map((value, i) => {
        const scale = scaleAt(x, i)
        const token = x.slice(i - (i % 64), i - (i % 64) + 64)
        const zeroPoint = symmetric ? 8 : roundHalfEven(-Math.min(...token) / scale)
        const code = roundHalfEven(value / scale) + zeroPoint
        if (code <= 0 || code >= 15) {
          const ends = Math.min(Math.max(code, 0), 15) - zeroPoint
          return (_x: number, s: number) => ends * s
        }
        const error = code - zeroPoint - value / scale
        return (x: number, s: number) => x + error * s
      })
      const loss = (h: number) => {
        const moved = x.map((value, i) => value + h * direction[i]!)
        return moved.reduce((sum, value, i) => sum + dy[i]! * pieces[i]!(value, scaleAt(moved, i)), 0)
      }
      const { dx } = await byGraph(given, x, dy, 'float64')
      const slope = dx.reduce((sum, value, i) => sum + value * direction[i]!, 0)
      expect(slope).toBeCloseTo((loss(1e-6) - loss(-1e-6)) / 2e-6, 6)
    },
  )

  test.each([false, true])('of the ratios is the slope with the rounding held fixed; symmetric %s', async symmetric => {
    const [x, dy] = [[...noise(384, 31)], [...noise(384, 32)]]
    const at = [0.8, 0.9] as const
    const scaleAt = (i: number, [min, max]: readonly [number, number]) => {
      const token = x.slice(i - (i % 64), i - (i % 64) + 64)
      const [lo, hi] = [Math.min(...token) * min, Math.max(...token) * max]
      return { lo, scale: symmetric ? Math.max(hi, -lo) / 7 : (hi - lo) / 15 }
    }
    const pieces = x.map((value, i) => {
      const { lo, scale } = scaleAt(i, at)
      const zeroPoint = symmetric ? 8 : roundHalfEven(-lo / scale)
      const code = roundHalfEven(value / scale) + zeroPoint
      const isInside = code > 0 && code < 15
      const steps = Math.min(Math.max(code, 0), 15) - zeroPoint - (isInside ? value / scale : 0)
      return (s: number) => (isInside ? value : 0) + steps * s
    })
    const loss = (min: number, max: number) =>
      x.reduce((sum, _, i) => sum + dy[i]! * pieces[i]!(scaleAt(i, [min, max]).scale), 0)

    const g = new Builder()
    const input = g.input('x', 'float64', [6, 64])
    const seed = g.input('dy', 'float64', [6, 64])
    const ratios = { min: g.input('min', 'float64', []), max: g.input('max', 'float64', []) }
    const y = emitFakeQuantizeTokens(g, input, { bits: 4, symmetric }, undefined, ratios)
    const found = gradients(g, new Map([[y, seed]]), [ratios.min, ratios.max])
    g.output(found.get(ratios.min)!, 'dmin')
    g.output(found.get(ratios.max)!, 'dmax')
    const double = (dims: number[], values: readonly number[]) => floatTensor(dims, values, 'float64')
    const feeds = { x: double([6, 64], x), dy: double([6, 64], dy), min: double([], [at[0]]), max: double([], [at[1]]) }
    const { dmin, dmax } = await runGraph(g.graph, feeds, { threads: 1 })
    const h = 1e-6
    const slopes = [
      (loss(at[0] + h, at[1]) - loss(at[0] - h, at[1])) / (2 * h),
      (loss(at[0], at[1] + h) - loss(at[0], at[1] - h)) / (2 * h),
    ]
    expect(Math.abs(slopes[0]!) + Math.abs(slopes[1]!)).toBeGreaterThan(0.1)
    expect(readNumbers(dmin!)[0]).toBeCloseTo(slopes[0]!, 6)
    expect(readNumbers(dmax!)[0]).toBeCloseTo(slopes[1]!, 6)
  })

  test('in float32 is close to that in float64', async () => {
    const given: TokenCase = { tokens: 4, heads: 1, size: 512, quantizer: { bits: 8, symmetric: false }, seed: 1 }
    const [x, dy] = [noise(2048, 8), noise(2048, 9)]
    const single = await byGraph(given, x, dy, 'float32')
    const double = byHand(given, [...x], [...dy])
    for (const [i, value] of single.dx.entries()) expect(Math.abs(value - double.dx[i]!)).toBeLessThan(2e-4)
  })
})

describe('refuses', () => {
  const x = () => new Builder().input('x', 'float32', [1, 2, 12])
  test.each([1, 9, 4.5])('%s bits', bits => {
    const error = expect.objectContaining({ code: 'E_SCHEME' })
    expect(() => emitFakeQuantizeTokens(new Builder(), x(), { bits, symmetric: false })).toThrow(error)
    expect(() => fakeQuantizeTokens(new Float32Array(12), 12, { bits, symmetric: false })).toThrow(error)
  })
  test.each([5, 0, 24])('groups of %s out of 12', group => {
    const error = expect.objectContaining({ code: 'E_SCHEME' })
    expect(() => emitFakeQuantizeTokens(new Builder(), x(), { bits: 4, symmetric: false }, group)).toThrow(error)
    expect(() => fakeQuantizeTokens(new Float32Array(12), group, { bits: 4, symmetric: false })).toThrow(error)
  })
})
