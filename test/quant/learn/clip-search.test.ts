/** @file Clip ratios of weights outside the blocks: never worse than rounding, what ships is what was searched, slices change nothing. */

import { describe, expect, test } from 'vitest'
import { tensorOf } from '../../../src/graph/tensor.ts'
import { toFloat16Bits } from '../../../src/kernels/float16.ts'
import { packMatMulNBits } from '../../../src/kernels/pack/matmul-nbits.ts'
import { packRounded } from '../../../src/kernels/pack/rounded.ts'
import type { ClipRatios, WeightQuantizer } from '../../../src/kernels/qparams.ts'
import type { StoredWeight } from '../../../src/kernels/round/tile-layout.ts'
import { readFloats } from '../../../src/kernels/float16.ts'
import { transpose2d } from '../../../src/kernels/transpose.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import { searchClip, sliceColumns, UNWEIGHTED } from '../../../src/quant/learn/clip-search.ts'
import { noise } from '../../kernels/weights.ts'

const SESSION = { session: { threads: 1 } }

/** Gram matrix of correlated inputs, some of them massive, as mean of x x^T. */
function gramOf(K: number, seed: number): Float32Array {
  const tokens = 3 * K
  const x = noise(tokens * K, seed).map((value, i, all) => (i % K === 1 ? 8 : 1) * (value + all[i - (i % K)]!))
  const gram = new Float32Array(K * K)
  for (let t = 0; t < tokens; t++)
    for (let i = 0; i < K; i++) for (let j = 0; j < K; j++) gram[i * K + j]! += (x[t * K + i]! * x[t * K + j]!) / tokens
  return gram
}

/** Mean over columns of e^T gram e, in float64. */
function objective(w: Float32Array, K: number, N: number, q: WeightQuantizer, gram: Float32Array, clip?: ClipRatios) {
  const rounded = dequantize(quantizeWeight(w, K, N, q, clip), K, N, q.group)
  let sum = 0
  for (let n = 0; n < N; n++) {
    const e = Float64Array.from({ length: K }, (_, k) => rounded[k * N + n]! - w[k * N + n]!)
    for (let i = 0; i < K; i++) for (let j = 0; j < K; j++) sum += e[i]! * gram[i * K + j]! * e[j]!
  }
  return sum / N
}

const stored = (w: Float32Array, K: number, N: number, transposed = false): StoredWeight => ({
  name: 'head',
  transposed,
  tensor: transposed ? tensorOf('float32', [N, K], transpose2d(w, K, N)) : tensorOf('float32', [K, N], w),
})

describe('clip ratios against a Gram matrix', () => {
  test.each<[number, number, number, boolean, boolean]>([
    [4, 64, 21, false, false],
    [2, 64, 21, false, true],
    [2, 40, 9, false, false], // the last group is short
    [4, 24, 5, false, true], // narrower than a group
    [4, 64, 13, true, false],
    [2, 64, 13, true, true],
  ])('%i bits of [%i, %i], symmetric %s, stored transposed %s', async (bits, K, N, symmetric, transposed) => {
    const quantizer: WeightQuantizer = { bits, group: 32, symmetric, scaleDtype: 'float32' }
    const w = noise(K * N, 3)
    const gram = gramOf(K, 4)
    const found = await searchClip(stored(w, K, N, transposed), quantizer, { by: 'gram', numbers: gram }, SESSION)
    const rounded = objective(w, K, N, quantizer, gram)
    const learned = objective(w, K, N, quantizer, gram, found.clip)
    expect(found.roundedLoss / rounded).toBeCloseTo(1, 4)
    expect(found.learnedLoss / learned).toBeCloseTo(1, 4)
    expect(learned).toBeLessThan(0.9 * rounded)
    for (const ratio of [...found.clip.max, ...found.clip.min]) {
      expect(ratio).toBeLessThanOrEqual(1)
      expect(ratio).toBeGreaterThan(0.29)
    }
  })

  test.each([
    [2, 64, false],
    [3, 40, true],
  ])(
    '%i bits of [%i, 21] weighed by channels are what the diagonal of a Gram matrix gives, symmetric %s',
    async (bits, K, symmetric) => {
      const N = 21
      const quantizer: WeightQuantizer = { bits, group: 32, symmetric, scaleDtype: 'float32' }
      const w = stored(noise(K * N, 3), K, N)
      const numbers = noise(K, 4).map(x => 4 * x ** 4 + 0.01)
      const diagonal = new Float32Array(K * K)
      numbers.forEach((x, i) => (diagonal[i * (K + 1)] = x))
      const channels = await searchClip(w, quantizer, { by: 'channels', numbers }, SESSION)
      const gram = await searchClip(w, quantizer, { by: 'gram', numbers: diagonal }, SESSION)
      expect(channels.learnedLoss / gram.learnedLoss).toBeCloseTo(1, 3)
      expect(channels.learnedLoss).toBeLessThan(0.9 * channels.roundedLoss)
      const plain = await searchClip(w, quantizer, UNWEIGHTED, SESSION)
      expect(plain.clip).not.toEqual(channels.clip)
    },
  )

  test('no column is worse than rounded to nearest', async () => {
    const [K, N] = [32, 40]
    const quantizer: WeightQuantizer = { bits: 4, group: 16, symmetric: false, scaleDtype: 'float32' }
    const w = noise(K * N, 5)
    const gram = gramOf(K, 6)
    const { clip } = await searchClip(stored(w, K, N), quantizer, { by: 'gram', numbers: gram }, SESSION)
    const column = (all: Float32Array, height: number, n: number) =>
      Float32Array.from({ length: height }, (_, k) => all[k * N + n]!)
    for (let n = 0; n < N; n++) {
      const own = { max: column(clip.max, 2, n), min: column(clip.min, 2, n) }
      const [one, before] = [column(w, K, n), objective(column(w, K, n), K, 1, quantizer, gram)]
      expect(objective(one, K, 1, quantizer, gram, own)).toBeLessThanOrEqual(before * (1 + 1e-6))
    }
  })

  test.each([true, false])('slices of columns give what the whole gives, stored transposed %s', async transposed => {
    const [K, N] = [48, 50]
    const quantizer: WeightQuantizer = { bits: 4, group: 16, symmetric: false, scaleDtype: 'float32' }
    const weight = stored(noise(K * N, 7), K, N, transposed)
    const gram = gramOf(K, 8)
    const whole = await searchClip(weight, quantizer, { by: 'gram', numbers: gram }, SESSION)
    const sliced = await searchClip(weight, quantizer, { by: 'gram', numbers: gram }, { ...SESSION, columns: 16 })
    expect(sliced.clip.max).toEqual(whole.clip.max)
    expect(sliced.clip.min).toEqual(whole.clip.min)
    expect(sliced.learnedLoss / whole.learnedLoss).toBeCloseTo(1, 5)
  })

  test('a slice of a large vocabulary stays small, and every column is in one', () => {
    expect(sliceColumns(4096, 128_256)).toBe(1024)
    expect(sliceColumns(256, 2048)).toBe(2048)
    expect(sliceColumns(256, 100)).toBe(100)
  })

  test.each([
    [4, false, 'float32'],
    [2, true, 'float16'],
    [8, false, 'float16'],
  ] as const)('the file gets the searched numbers: %i bits, symmetric %s, %s', (bits, symmetric, dtype) => {
    const [K, N] = [64, 24]
    const quantizer: WeightQuantizer = { bits, group: 16, symmetric, scaleDtype: dtype }
    const w = noise(K * N, 9)
    const tensor = dtype === 'float32' ? tensorOf(dtype, [K, N], w) : tensorOf(dtype, [K, N], toFloat16Bits(w))
    const ratios = (seed: number) => noise((K / 16) * N, seed).map(x => 0.7 + 0.3 * x)
    const clip = { max: ratios(10), min: ratios(11) }
    const want = packMatMulNBits({ ...quantizeWeight(readFloats(tensor), K, N, quantizer, clip), ...quantizer, K, N })
    for (const tileBytes of [undefined, 2000])
      expect(packRounded({ name: 'head', tensor, transposed: false, clip }, quantizer, tileBytes)).toEqual(want)
    const turned = dtype === 'float32' && stored(w, K, N, true)
    if (turned) expect(packRounded({ ...turned, clip }, quantizer, 2000)).toEqual(want)
  })
})
