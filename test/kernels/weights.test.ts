/** @file The weight quantizer: what it promises, and that the graph computes the same bits as the plain definition. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { print } from '../../src/graph/print.ts'
import { readElements, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { dequantize, emitFakeQuantize, emitWeightRange, quantizeWeight } from '../../src/kernels/weights.ts'
import { affineQParams, groupsOf, roundHalfEven, weightRange, type WeightQuantizer } from '../../src/kernels/qparams.ts'
import { runGraph, type Tensors } from '../../src/kernels/session.ts'
import { GRIDS, noise, type WeightCase, weightCases, weightsOf } from './weights.ts'

function ratiosOf({ K, N, quantizer, seed, clipped }: WeightCase) {
  if (!clipped) return undefined
  const length = groupsOf(K, quantizer.group).count * N
  const ratios = (offset: number) => noise(length, seed + offset).map(x => 0.55 + 0.45 * x)
  return { min: ratios(1), max: ratios(2) }
}

/** Everything `emitFakeQuantize` gives, by running it. */
async function runEmitter(given: WeightCase, w: Float32Array): Promise<Record<string, ArrayLike<number>>> {
  const { K, N, quantizer } = given
  const { count } = groupsOf(K, quantizer.group)
  const g = new Builder()
  const feeds: Tensors = { w: tensorOf('float32', [K, N], w) }
  const input = (name: string, dims: number[], elements: Float32Array) => {
    feeds[name] = tensorOf('float32', dims, elements)
    return g.input(name, 'float32', dims)
  }
  const weight = g.input('w', 'float32', [K, N])
  const clip = ratiosOf(given)
  const ratios = clip && { min: input('min', [count, N], clip.min), max: input('max', [count, N], clip.max) }
  const range = emitWeightRange(g, weight, quantizer.group)
  const { output, codes, scale, zeroPoint } = emitFakeQuantize(g, weight, range, quantizer, { ratios })
  for (const [name, value] of Object.entries({ output, codes, scale, zeroPoint, lo: range.lo, hi: range.hi }))
    g.output(g.op('Identity', [value]), `${name}_out`)
  const result = await runGraph(g.graph, feeds, { threads: 1 })
  const numbers = (tensor: Tensor) => readElements(tensor) as Float32Array
  return Object.fromEntries(Object.entries(result).map(([name, tensor]) => [name.slice(0, -4), numbers(tensor)]))
}

describe('the graph gives the definition’s numbers, bit for bit', () => {
  const compare = async (given: WeightCase, w: Float32Array) => {
    const { K, N, quantizer } = given
    const quantized = quantizeWeight(w, K, N, quantizer, ratiosOf(given))
    const expected = {
      ...weightRange(w, K, N, quantizer.group),
      ...quantized,
      output: dequantize(quantized, K, N, quantizer.group),
    }
    const actual = await runEmitter(given, w)
    for (const [name, numbers] of Object.entries(expected)) {
      // Array.from makes codes and floats comparable; + 0 makes -0 and 0 the same.
      expect(
        Array.from(actual[name]!, x => x + 0),
        name,
      ).toEqual(Array.from(numbers, x => x + 0))
    }
  }

  test('for random weights, groups, bits, clips and scale types', async () => {
    await fc.assert(
      fc.asyncProperty(weightCases, async given => compare(given, weightsOf(given))),
      { numRuns: 60 },
    )
  })

  test.each<[string, number[]]>([
    ['zeros', [0, 0, 0, 0]],
    ['positive', [1, 2, 3, 4]],
    ['negative', [-1, -2, -3, -4]],
    ['tiny', [1e-30, -1e-38, 1e-45, 0]],
    ['subnormal', [1e-40, -1e-45, 0, 0]],
    ['huge', [1e18, -1e18, 1e15, 1]],
  ])('for groups of %s weights', async (_, w) => {
    for (const grid of GRIDS)
      for (const scaleDtype of ['float32', 'float16'] as const) {
        const quantizer: WeightQuantizer = { bits: 3, group: 4, ...grid, scaleDtype }
        await compare({ K: 4, N: 1, quantizer, seed: 1, clipped: false }, Float32Array.from(w))
      }
  })

  test('for float16 scales of every size', async () => {
    // Columns 2^-1 apart, from the greatest float16 numbers to below the least.
    const [K, N] = [16, 48]
    const w = noise(K * N, 21).map((x, i) => x * 2 ** (16 - (i % N)))
    for (const grid of GRIDS)
      for (const bits of [2, 4, 8]) {
        const quantizer: WeightQuantizer = { bits, group: K, ...grid, scaleDtype: 'float16' }
        await compare({ K, N, quantizer, seed: 1, clipped: true }, w)
      }
  })

  test('for ratios of zero, where every weight is far outside', async () => {
    const given: WeightCase = {
      K: 8,
      N: 1,
      quantizer: { bits: 4, group: 8, symmetric: false, scaleDtype: 'float32' },
      seed: 5,
      clipped: false,
    }
    const w = noise(8, 5)
    const zero = Float32Array.of(0)
    const { codes, scale } = quantizeWeight(w, 8, 1, given.quantizer, { min: zero, max: zero })
    expect(scale[0]).toBe(2 ** -126)
    expect([...codes]).toEqual(Array.from(w, x => (x > 0 ? 15 : 0)))
  })
})

describe('quantizeWeight', () => {
  test('errs by half a step at most, keeps zero exactly, uses no code beyond its bits', () => {
    fc.assert(
      fc.property(weightCases, given => {
        const { K, N, quantizer } = given
        const w = weightsOf(given)
        w[0] = 0
        const quantized = quantizeWeight(w, K, N, quantizer)
        const back = dequantize(quantized, K, N, quantizer.group)
        expect(back[0]! + 0).toBe(0)
        const { size } = groupsOf(K, quantizer.group)
        for (let i = 0; i < w.length; i++) {
          const step = Math.abs(quantized.scale[Math.floor(i / N / size) * N + (i % N)]!)
          // The zero point is rounded too, and a scale rounded down to float16 (by 2^-8 at most) loses that much of the ends.
          const allowed = quantizer.symmetric ? step / 2 : step
          const ends = quantizer.scaleDtype === 'float16' ? Math.abs(w[i]!) * 2 ** -8 : 0
          expect(Math.abs(back[i]! - w[i]!)).toBeLessThanOrEqual(allowed * (1 + 1e-4) + ends)
          expect(quantized.codes[i]).toBeLessThan(2 ** quantizer.bits)
        }
      }),
      { numRuns: 100 },
    )
  })

  test('errs by half a step wherever the clamp does not act', () => {
    const w = noise(4096, 3)
    const quantizer: WeightQuantizer = { bits: 3, group: 64, symmetric: false, scaleDtype: 'float32' }
    const { codes, scale, zeroPoint } = quantizeWeight(w, 512, 8, quantizer)
    const back = dequantize({ codes, scale, zeroPoint }, 512, 8, 64)
    const inside = Array.from(w.keys()).filter(i => codes[i]! > 0 && codes[i]! < 7)
    expect(inside.length).toBeGreaterThan(2000)
    for (const i of inside) {
      const step = scale[Math.floor(i / 8 / 64) * 8 + (i % 8)]!
      expect(Math.abs(back[i]! - w[i]!)).toBeLessThanOrEqual((step / 2) * (1 + 1e-5))
    }
  })

  test('symmetric: the greater end has the code 0, whichever it is, and comes back exactly where the lesser leaves it room', () => {
    for (const bits of [2, 3, 4, 8])
      for (const turn of [1, -1]) {
        const w = noise(64, bits).map(x => (turn * x > 0.5 ? x / 2 : x))
        w[7] = -turn
        const quantizer: WeightQuantizer = { bits, group: 64, symmetric: true, scaleDtype: 'float32' }
        const quantized = quantizeWeight(w, 64, 1, quantizer)
        expect(quantized.scale[0]).toBe(turn * 2 ** (1 - bits))
        expect(quantized.codes[7]).toBe(0)
        expect(dequantize(quantized, 64, 1, 64)[7]).toBe(-turn)
      }
  })

  test('symmetric: 2 bits use four levels', () => {
    const quantizer: WeightQuantizer = { bits: 2, group: 64, symmetric: true, scaleDtype: 'float32' }
    const { codes } = quantizeWeight(noise(64 * 8, 11), 64, 8, quantizer)
    for (let n = 0; n < 8; n++)
      expect(new Set(codes.filter((_, i) => i % 8 === n)), `column ${n}`).toEqual(new Set([0, 1, 2, 3]))
  })

  test('symmetric: w and -w have the same codes, and scales of opposite signs', () => {
    fc.assert(
      fc.property(weightCases, given => {
        const { K, N } = given
        const quantizer = { ...given.quantizer, symmetric: true, positiveScale: false }
        const w = weightsOf(given)
        const range = weightRange(w, K, N, quantizer.group)
        const [one, other] = [
          quantizeWeight(w, K, N, quantizer),
          quantizeWeight(
            w.map(x => -x),
            K,
            N,
            quantizer,
          ),
        ]
        const { size } = groupsOf(K, quantizer.group)
        // Ends of equal size: the scale is positive either way.
        const isTie = one.scale.map((_, i) => Number(range.hi[i] === -range.lo[i]!))
        one.scale.forEach((scale, i) => expect(other.scale[i]).toBe(isTie[i] ? scale : -scale))
        one.codes.forEach((code, i) => {
          if (!isTie[Math.floor(i / N / size) * N + (i % N)]) expect(other.codes[i]).toBe(code)
        })
      }),
      { numRuns: 60 },
    )
  })

  test('symmetric: errs less than the grid without the code 0 does, on average over groups', () => {
    // -7 to 7 steps of max|w| / 7 for 4 bits.
    const narrow = (w: Float32Array, bits: number) => {
      const most = 2 ** (bits - 1) - 1
      const step = Math.max(...w.map(Math.abs)) / most
      return w.reduce((sum, x) => sum + (roundHalfEven(x / step) * step - x) ** 2, 0)
    }
    for (const [bits, ratio] of [
      [2, 0.4],
      [3, 0.7],
      [4, 0.85],
    ] as const) {
      const quantizer: WeightQuantizer = { bits, group: 32, symmetric: true, scaleDtype: 'float32' }
      let [before, after] = [0, 0]
      for (let seed = 1; seed <= 200; seed++) {
        // Sums of six numbers: nearly normal, as weights are.
        const parts = noise(6 * 32, seed)
        const w = Float32Array.from({ length: 32 }, (_, i) => parts.subarray(6 * i, 6 * i + 6).reduce((a, b) => a + b))
        const back = dequantize(quantizeWeight(w, 32, 1, quantizer), 32, 1, 32)
        before += narrow(w, bits)
        after += back.reduce((sum, x, i) => sum + (x - w[i]!) ** 2, 0)
      }
      expect(after / before, `${bits} bits`).toBeLessThan(ratio)
    }
  })

  test('8 bits are nearly lossless, and fewer bits lose more', () => {
    const w = noise(2048, 9)
    const error = (bits: number) => {
      const quantizer: WeightQuantizer = { bits, group: 128, symmetric: false, scaleDtype: 'float32' }
      const back = dequantize(quantizeWeight(w, 256, 8, quantizer), 256, 8, 128)
      return Math.sqrt(back.reduce((sum, x, i) => sum + (x - w[i]!) ** 2, 0) / w.reduce((sum, x) => sum + x * x, 0))
    }
    const errors = [8, 7, 6, 5, 4, 3, 2].map(error)
    expect(errors[0]).toBeLessThan(0.005)
    expect(errors).toEqual(errors.toSorted((a, b) => a - b))
  })

  test('a grid it can represent comes back exactly', () => {
    const w = Float32Array.from({ length: 16 }, (_, i) => (i - 5) * 0.25)
    const quantizer: WeightQuantizer = { bits: 4, group: 16, symmetric: false, scaleDtype: 'float32' }
    const quantized = quantizeWeight(w, 16, 1, quantizer)
    expect([...quantized.codes]).toEqual([...w.keys()])
    expect(dequantize(quantized, 16, 1, 16)).toEqual(w)
  })

  test('its scale and zero point are those of affineQParams', () => {
    const w = noise(64, 4)
    const quantizer: WeightQuantizer = { bits: 5, group: 16, symmetric: false, scaleDtype: 'float16' }
    const { scale, zeroPoint } = quantizeWeight(w, 32, 2, quantizer)
    expect({ scale, zeroPoint }).toEqual(affineQParams(weightRange(w, 32, 2, 16), quantizer))
  })
})

describe('emitFakeQuantize', () => {
  test('makes the passes over the weight it says, and codes only when asked', () => {
    const g = new Builder()
    const w = g.input('w', 'float32', [8, 3])
    const range = emitWeightRange(g, w, 4)
    g.graph.nodes.length = 0
    const quantizer: WeightQuantizer = { bits: 4, group: 4, symmetric: false, scaleDtype: 'float32' }
    const quantized = emitFakeQuantize(g, w, range, quantizer)
    const count = g.graph.nodes.length
    g.output(quantized.output)
    expect(print(g.graph)).toMatchInlineSnapshot(`
      "graph graph(w: float32[8, 3]) {
        sub: float32[2, 3] = Sub(max, min)
        div: float32[2, 3] = Div(sub, 15)
        clip: float32[2, 3] = Clip(div, 1.1754943508222875e-38, 3.4028234663852886e+38)
        neg: float32[2, 3] = Neg(min)
        div_1: float32[2, 3] = Div(neg, clip)
        add: float32[2, 3] = Add(div_1, 12582912)
        add_1: float32[2, 3] = Add(add, -12582912)
        clip_1: float32[2, 3] = Clip(add_1, 0, 15)
        reshape_1: float32[2, 1, 3] = Reshape(clip, [2, 1, 3]) {allowzero: 0}
        reshape_2: float32[2, 1, 3] = Reshape(clip_1, [2, 1, 3]) {allowzero: 0}
        div_2: float32[2, 4, 3] = Div(reshape, reshape_1)
        add_2: float32[2, 4, 3] = Add(div_2, 12582912)
        add_3: float32[2, 1, 3] = Add(reshape_2, -12582912)
        add_4: float32[2, 4, 3] = Add(add_2, add_3)
        clip_2: float32[2, 4, 3] = Clip(add_4, 0, 15)
        sub_1: float32[2, 4, 3] = Sub(clip_2, reshape_2)
        mul: float32[2, 4, 3] = Mul(sub_1, reshape_1)
        reshape_3: float32[8, 3] = Reshape(mul, [8, 3]) {allowzero: 0}
        return reshape_3
      }"
    `)
    void quantized.codes
    expect(g.graph.nodes.length).toBe(count + 1)
    void quantized.codes
    expect(g.graph.nodes.length).toBe(count + 1)
  })

  test('refuses a range of other groups', () => {
    const g = new Builder()
    const w = g.input('w', 'float32', [8, 3])
    const quantizer: WeightQuantizer = { bits: 4, group: 8, symmetric: false, scaleDtype: 'float32' }
    expect(() => emitFakeQuantize(g, w, emitWeightRange(g, w, 4), quantizer)).toThrow('expected')
    expect(() => emitFakeQuantize(g, w, emitWeightRange(g, w, 8), { ...quantizer, bits: 9 })).toThrow(
      expect.objectContaining({ code: 'E_SCHEME' }),
    )
  })
})
