/**
 * @file The quantizer over a fixed range: its definition, that the graph and onnxruntime's operators compute the same bits, and its
 * gradients in float64.
 */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, readElements, readNumbers, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { roundHalfEven } from '../../src/kernels/qparams.ts'
import { runGraph } from '../../src/kernels/session.ts'
import {
  type ActivationRange,
  emitFakeQuantizeRange,
  emitRangeSteps,
  fakeQuantizeRange,
  type RangeQuantizer,
  rangeSteps,
} from '../../src/kernels/static-range.ts'
import { noise } from './weights.ts'

const A8: RangeQuantizer = { kind: 'static', bits: 8 }
const A16: RangeQuantizer = { kind: 'static', bits: 16 }

const positiveZero = (numbers: ArrayLike<number>) => Array.from(numbers, x => x + 0)

/** y of the training graph and, for dy, the gradients of x, lo and hi. */
async function byGraph(
  quantizer: RangeQuantizer,
  x: ArrayLike<number>,
  { lo, hi }: ActivationRange,
  dtype: 'float32' | 'float64' = 'float32',
  dy: ArrayLike<number> = x,
) {
  const g = new Builder()
  const dims = [1, x.length / 2, 2]
  const [input, seed] = [g.input('x', dtype, dims), g.input('dy', dtype, dims)]
  const range = { lo: g.input('lo', dtype, []), hi: g.input('hi', dtype, []) }
  const y = emitFakeQuantizeRange(g, input, emitRangeSteps(g, range, quantizer), quantizer)
  expect(y.shape).toEqual(dims)
  const found = gradients(g, new Map([[y, seed]]), [input, range.lo, range.hi])
  g.output(y, 'y')
  for (const [value, name] of [
    [input, 'dx'],
    [range.lo, 'dlo'],
    [range.hi, 'dhi'],
  ] as const)
    g.output(found.get(value)!, name)
  const result = await runGraph(
    g.graph,
    {
      x: floatTensor(dims, Array.from(x), dtype),
      dy: floatTensor(dims, Array.from(dy), dtype),
      lo: floatTensor([], [lo], dtype),
      hi: floatTensor([], [hi], dtype),
    },
    { threads: 1 },
  )
  const numbers = (name: string) => readNumbers(result[name]!)
  return { y: numbers('y'), dx: numbers('dx'), dlo: numbers('dlo')[0]!, dhi: numbers('dhi')[0]! }
}

/** y by QuantizeLinear and DequantizeLinear of onnxruntime, with the constants of the definition. */
async function byOperators(
  { bits }: RangeQuantizer,
  x: Float32Array,
  { scale, zeroPoint }: ReturnType<typeof rangeSteps>,
) {
  const g = new Builder()
  const zero: Tensor =
    bits === 8 ? tensorOf('uint8', [], Uint8Array.of(zeroPoint)) : tensorOf('uint16', [], Uint16Array.of(zeroPoint))
  const constants = [g.initializer('scale', floatTensor([], [scale])), g.initializer('zero', zero)]
  const codes = g.op('QuantizeLinear', [g.input('x', 'float32', [x.length]), ...constants])
  const y = g.op('DequantizeLinear', [codes, ...constants])
  codes.dtype = zero.dtype
  g.output(Object.assign(y, { dtype: 'float32', shape: [x.length] }), 'y')
  const result = await runGraph(g.graph, { x: floatTensor([x.length], x) }, { threads: 1 })
  return readElements(result['y']!) as Float32Array
}

/** Numbers around the range, beyond it, at its bounds, on half steps, zeros, and far beyond. */
function numbersFor(range: ActivationRange, quantizer: RangeQuantizer, seed: number): Float32Array {
  const { scale } = rangeSteps(range, quantizer)
  const reach = Math.max(range.hi, -range.lo, 1e-6)
  return noise(64, seed).map((x, i) => {
    const kinds = [1.3 * x * reach, Math.round(x * 9) * scale, (Math.round(x * 9) + 0.5) * scale, 0, range.lo, range.hi]
    return [...kinds, 1e6 * x * reach][(i + seed) % 7]!
  })
}

const ranges: fc.Arbitrary<ActivationRange> = fc
  .tuple(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.integer({ min: -20, max: 20 }),
  )
  .map(([below, above, power]) => ({ lo: Math.fround(-below * 2 ** power), hi: Math.fround(above * 2 ** power) }))

describe('the definition', () => {
  test('has known numbers', () => {
    const steps = rangeSteps({ lo: -1, hi: 1.55 }, A8)
    expect(steps).toEqual({ scale: Math.fround(2.55 / 255), zeroPoint: 100 })
    const y = fakeQuantizeRange(Float32Array.of(-7, -1, -0.014, 0, 0.013, 1.55, 99), { bits: 8, ...steps })
    expect(Array.from(y, value => Math.round(value * 1e6) / 1e6 + 0)).toEqual([-1, -1, -0.01, 0, 0.01, 1.55, 1.55])
    expect(rangeSteps({ lo: -1, hi: 1.55 }, A16).zeroPoint).toBe(25700)
  })

  test('gives zero a code, whatever the range', () => {
    for (const range of [
      { lo: 1, hi: 3 },
      { lo: -3, hi: -1 },
      { lo: 0, hi: 0 },
      { lo: 2, hi: -2 },
    ])
      for (const bits of [8, 16]) {
        const steps = rangeSteps(range, { bits })
        expect(steps.zeroPoint).toBeGreaterThanOrEqual(0)
        expect(steps.zeroPoint).toBeLessThan(2 ** bits)
        expect(positiveZero(fakeQuantizeRange(Float32Array.of(0), { bits, ...steps }))).toEqual([0])
      }
  })

  test('keeps numbers of the range to half a step, and clips the rest', () => {
    fc.assert(
      fc.property(ranges, fc.constantFrom(A8, A16), fc.integer({ min: 1, max: 1e6 }), (range, quantizer, seed) => {
        const x = numbersFor(range, quantizer, seed)
        const { scale, zeroPoint } = rangeSteps(range, quantizer)
        const y = fakeQuantizeRange(x, { ...quantizer, scale, zeroPoint })
        const [first, last] = [-zeroPoint * scale, (2 ** quantizer.bits - 1 - zeroPoint) * scale]
        y.forEach((value, i) => {
          const clipped = Math.min(Math.max(x[i]!, first), last)
          expect(Math.abs(value - clipped)).toBeLessThanOrEqual(scale * 0.51)
        })
      }),
    )
  })

  test('refuses other widths', () => {
    for (const bits of [4, 7, 12, 32])
      expect(() => rangeSteps({ lo: 0, hi: 1 }, { bits })).toThrow(/static activations/)
  })
})

describe('bit for bit', () => {
  const compare = async (quantizer: RangeQuantizer, range: ActivationRange, x: Float32Array) => {
    const steps = rangeSteps(range, quantizer)
    const expected = positiveZero(fakeQuantizeRange(x, { bits: quantizer.bits, ...steps }))
    const { y } = await byGraph(quantizer, x, range)
    expect(positiveZero(y)).toEqual(expected)
    expect(positiveZero(await byOperators(quantizer, x, steps))).toEqual(expected)
  }

  test('the training graph and the operators of the file give the definition’s numbers', async () => {
    await fc.assert(
      fc.asyncProperty(ranges, fc.constantFrom(A8, A16), fc.integer({ min: 1, max: 1e6 }), (range, quantizer, seed) =>
        compare(quantizer, range, numbersFor(range, quantizer, seed)),
      ),
      { numRuns: 40 },
    )
  })

  test.each<[string, ActivationRange]>([
    ['of positive numbers', { lo: 0, hi: 5 }],
    ['of negative numbers', { lo: -5, hi: 0 }],
    ['that has passed zero', { lo: 1, hi: 5 }],
    ['of no width', { lo: 0, hi: 0 }],
    ['of great numbers', { lo: -1e30, hi: 3e37 }],
  ])('for a range %s', async (_, range) => {
    for (const quantizer of [A8, A16]) await compare(quantizer, range, numbersFor(range, quantizer, 3))
  })
})

describe('gradients in float64 equal finite differences', () => {
  /**
   * The function whose gradient is passed straight through: clip(x, first, last) + scale * r, with r and the rounding of the zero point
   * as they are at `at`.
   */
  function frozen(x: readonly number[], { lo, hi }: ActivationRange, at: ActivationRange, bits: number): number[] {
    const top = 2 ** bits - 1
    const stepsOf = (range: ActivationRange) => {
      const [below, above] = [Math.max(-range.lo, 0), Math.max(range.hi, 0)]
      const scale = (above + below) / top
      return { scale, zero: below / scale }
    }
    const [now, then] = [stepsOf({ lo, hi }), stepsOf(at)]
    const clip = (value: number, scale: number, zero: number) =>
      Math.min(Math.max(value, -zero * scale), (top - zero) * scale)
    const moved = roundHalfEven(then.zero) - then.zero
    return x.map(value => {
      const ratio = clip(value, then.scale, then.zero + moved) / then.scale
      const r = roundHalfEven(ratio) - ratio
      return clip(value, now.scale, now.zero + moved) + now.scale * r
    })
  }

  test.each([
    ['8 bits', A8, { lo: -0.7, hi: 1.1 }],
    ['16 bits', A16, { lo: -0.7, hi: 1.1 }],
    ['clipped hard', A8, { lo: -0.02, hi: 0.013 }],
    ['nothing clipped', A8, { lo: -2, hi: 3 }],
  ] as const)('%s', async (_, quantizer, range) => {
    const x = Array.from(noise(40, 5), value => value * 1.7)
    const dy = Array.from(noise(40, 6))
    const { dx, dlo, dhi } = await byGraph(quantizer, x, range, 'float64', dy)
    const loss = (numbers: readonly number[], at: ActivationRange) =>
      frozen(numbers, at, range, quantizer.bits).reduce((sum, value, i) => sum + value * dy[i]!, 0)
    const h = 1e-7
    const slope = (of: (delta: number) => number) => (of(h) - of(-h)) / (2 * h)
    expect(dlo).toBeCloseTo(
      slope(delta => loss(x, { ...range, lo: range.lo + delta })),
      5,
    )
    expect(dhi).toBeCloseTo(
      slope(delta => loss(x, { ...range, hi: range.hi + delta })),
      5,
    )
    // r is held, so the numbers that are clipped decide alone.
    x.forEach((value, i) => {
      const isInside = value > range.lo && value < range.hi
      const nearBound = Math.min(Math.abs(value - range.lo), Math.abs(value - range.hi)) < 0.01
      if (!nearBound) expect(dx[i]).toBeCloseTo(isInside ? dy[i]! : 0, 12)
    })
  })

  test('the gradient of the bounds is not small: what is clipped counts fully', async () => {
    const { dlo, dhi } = await byGraph(A8, [9, -9], { lo: -1, hi: 2 }, 'float64', [1, 1])
    expect(dhi).toBeCloseTo(1, 2)
    expect(dlo).toBeCloseTo(1, 2)
  })

  test('a bound that is zero can leave it again', async () => {
    const { dlo, dhi } = await byGraph(A8, [-9, -9], { lo: 0, hi: 2 }, 'float64', [1, 1])
    expect(dlo).toBeCloseTo(2, 2)
    expect(dhi).toBeCloseTo(0, 2)
  })
})
