/** @file Packed weights: read back unchanged, laid out as documented, and multiplied by onnxruntime as what they stand for. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { type Dim, Node, Value } from '../../../src/graph/ir.ts'
import { readElements, tensorOf } from '../../../src/graph/tensor.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import { fromFloat16Bits } from '../../../src/kernels/float16.ts'
import { chooseBlockSize, containerBits, packMatMulNBits } from '../../../src/kernels/pack/matmul-nbits.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { noise } from '../weights.ts'
import { unpackMatMulNBits } from './unpack.ts'

const quantizerOf = (given: Partial<WeightQuantizer>): WeightQuantizer => ({
  bits: 4,
  group: 16,
  symmetric: false,
  scaleDtype: 'float32',
  ...given,
})

/** A random weight, quantized. */
function quantized(K: number, N: number, quantizer: WeightQuantizer, seed = 1) {
  const codes = quantizeWeight(
    noise(K * N, seed).map((x, i) => x + (i % 3) * 0.3),
    K,
    N,
    quantizer,
  )
  return { ...codes, ...quantizer, K, N }
}

describe('chooseBlockSize', () => {
  test.each([
    // [K, group, block]
    [1024, 16, 16],
    [1024, 64, 64],
    [1024, 256, 256],
    [1024, 512, 256],
    [1024, 384, 128],
    [1024, 48, 16],
    [700, 96, 32],
    [1024, 1024, 256],
    [2816, 2816, 256],
    [300, 1000, 256],
    [257, 257, 256],
    [256, 256, 256],
    [200, 200, 256],
    [128, 128, 128],
    [100, 100, 128],
    [17, 17, 32],
    [16, 16, 16],
    [3, 128, 16],
  ])('K %i in groups of %i: %i', (K, group, block) => {
    expect(chooseBlockSize(K, group, 4)).toBe(block)
    expect(chooseBlockSize(K, group, 8)).toBe(block)
    // Blocks of 256 codes of 2 bits have no kernel at accuracy_level 4.
    expect(chooseBlockSize(K, group, 2)).toBe(Math.min(block, 128))
  })

  test.each([8, 24, 100])('groups of %i have no block', group => {
    expect(() => chooseBlockSize(1024, group, 4)).toThrow(
      expect.objectContaining({ code: 'E_SCHEME', message: expect.stringContaining(`groups of ${group}`) }),
    )
  })
})

test('containers are the widths MatMulNBits has', () => {
  expect([2, 3, 4, 5, 6, 7, 8].map(containerBits)).toEqual([2, 4, 4, 8, 8, 8, 8])
})

describe('packMatMulNBits', () => {
  test('puts low bits first along K, a row for each output, and pads with zero points', () => {
    // K 18 in one block of 32, N 2; column 0 counts up, column 1 is constant; zero points 3 and 15.
    const codes = Uint8Array.from({ length: 36 }, (_, i) => (i % 2 === 0 ? (i / 2) % 16 : 9))
    const packed = packMatMulNBits({
      codes,
      scale: Float32Array.of(0.5, 0.25),
      zeroPoint: Uint8Array.of(3, 15),
      K: 18,
      N: 2,
      ...quantizerOf({ group: 18 }),
    })
    expect(packed).toMatchObject({ bits: 4, blockSize: 32 })
    expect(packed.b.dims).toEqual([2, 1, 16])
    const rising = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x10, ...Array(7).fill(0x33)]
    expect([...(packed.b.data as Uint8Array)]).toEqual([...rising, ...Array(9).fill(0x99), ...Array(7).fill(0xff)])
    expect([...(readElements(packed.scales) as Float32Array)]).toEqual([0.5, 0.25])
    expect(packed.zeroPoints!.dims).toEqual([2, 1])
    expect([...(packed.zeroPoints!.data as Uint8Array)]).toEqual([3, 15])
  })

  test('packs zero points of several blocks, low bits first, each row padded to bytes', () => {
    const zeroPoint = Uint8Array.of(1, 2, 3, 0, 2, 1, 3, 3, 2, 0)
    const packed = packMatMulNBits({
      codes: new Uint8Array(160),
      scale: new Float32Array(10).fill(1),
      zeroPoint,
      K: 80,
      N: 2,
      ...quantizerOf({ bits: 2 }),
    })
    // Groups of column 0: 1 3 2 3 2; of column 1: 2 0 1 3 0.
    expect(packed.zeroPoints!.dims).toEqual([2, 2])
    expect([...(packed.zeroPoints!.data as Uint8Array)]).toEqual([0b11101101, 0b10, 0b11010010, 0])
  })

  test('symmetric weights have no zero points: codes are moved to the container’s own', () => {
    const packed = packMatMulNBits({
      codes: Uint8Array.from({ length: 16 }, (_, i) => i % 8),
      scale: Float32Array.of(1),
      zeroPoint: Uint8Array.of(4),
      K: 16,
      N: 1,
      ...quantizerOf({ bits: 3, symmetric: true }),
    })
    expect(packed.zeroPoints).toBeUndefined()
    expect([...(packed.b.data as Uint8Array)].slice(0, 4)).toEqual([0x54, 0x76, 0x98, 0xba])
  })

  test('one scale per channel is repeated for every block', () => {
    const packed = packMatMulNBits(quantized(600, 2, quantizerOf({ group: 600, scaleDtype: 'float16' })))
    expect(packed.scales).toMatchObject({ dtype: 'float16', dims: [2, 3] })
    const [a, b, c] = fromFloat16Bits(readElements(packed.scales) as Uint16Array)
    expect([b, c]).toEqual([a, a])
  })

  test('numbers that do not make a weight are a mistake of ours', () => {
    expect(() => packMatMulNBits({ ...quantized(32, 2, quantizerOf({})), K: 48 })).toThrow('do not make a weight')
  })

  test('unpackMatMulNBits gives back what was packed', () => {
    const cases = fc.record({
      K: fc.integer({ min: 1, max: 400 }),
      N: fc.integer({ min: 1, max: 70 }),
      bits: fc.integer({ min: 2, max: 8 }),
      group: fc.constantFrom(16, 32, 48, 128, 256, 512, 4096),
      symmetric: fc.boolean(),
      scaleDtype: fc.constantFrom('float32', 'float16'),
      seed: fc.integer({ min: 1, max: 1000 }),
    })
    fc.assert(
      fc.property(cases, ({ K, N, seed, ...quantizer }) => {
        const weight = quantized(K, N, quantizer, seed)
        const { codes, scale, zeroPoint } = weight
        expect(unpackMatMulNBits(packMatMulNBits(weight), weight)).toEqual({ codes, scale, zeroPoint })
      }),
      { numRuns: 40 },
    )
  })
})

/** One MatMulNBits with its inputs, in a float16 graph between Casts when its scales are float16. */
function appendMatMulNBits(g: Builder, x: Value, weight: ReturnType<typeof quantized>): Value {
  const { K, N, scaleDtype } = weight
  const packed = packMatMulNBits(weight)
  const shape: readonly Dim[] = [x.shape![0], N]
  const constants = [packed.b, packed.scales, packed.zeroPoints].flatMap(tensor =>
    tensor ? [g.initializer('packed', tensor)] : [],
  )
  const a = scaleDtype === 'float16' ? g.cast(x, 'float16') : x
  const y = new Value(g.names.fresh('y'), scaleDtype, shape)
  const attributes = { K, N, bits: packed.bits, block_size: packed.blockSize }
  g.graph.nodes.push(
    new Node(
      'MatMulNBits',
      [a, ...constants],
      [y],
      new Map(Object.entries(attributes).map(([name, value]) => [name, { type: 'int', value }])),
      'com.microsoft',
    ),
  )
  return scaleDtype === 'float16' ? g.cast(y, 'float32') : y
}

describe('onnxruntime multiplies by what the packed weight stands for', () => {
  const shapes = [
    [256, 16],
    [256, 32],
    [256, 64],
    [512, 128],
    [512, 256],
    [1024, 512],
    [288, 96],
    [600, 600],
    [100, 100],
    [200, 64],
    [330, 128],
    [40, 16],
  ] as const

  for (const scaleDtype of ['float32', 'float16'] as const) {
    for (const symmetric of [false, true]) {
      test(`${scaleDtype} scales, ${symmetric ? 'symmetric' : 'asymmetric'}: 2 to 8 bits, all groups, ragged K`, async () => {
        const N = 24
        const M = 3
        const g = new Builder()
        const expected: Float32Array[] = []
        const feeds: Record<string, ReturnType<typeof tensorOf>> = {}
        let cases = 0
        for (const [K, group] of shapes) {
          // Inputs float16 can hold: what is compared is the weight, not the rounding of the input.
          const x = noise(M * K, K).map(v => Math.round(v * 512) / 512)
          const input = g.input(`x${group}_${K}`, 'float32', [M, K])
          feeds[input.name] = tensorOf('float32', [M, K], x)
          for (let bits = 2; bits <= 8; bits++) {
            const weight = quantized(K, N, quantizerOf({ bits, group, symmetric, scaleDtype }), bits)
            const w = dequantize(weight, K, N, group)
            expected.push(product(x, w, M, K, N))
            g.output(g.op('Identity', [appendMatMulNBits(g, input, weight)]), `out${cases++}`)
          }
        }
        const result = await runGraph(g.graph, feeds, { threads: 1, prepacking: true })
        // float16 rounds the result itself, by 2^-11 of its size at most.
        const tolerance = scaleDtype === 'float16' ? 6e-4 : 2e-6
        expected.forEach((numbers, i) => {
          const y = readElements(result[`out${i}`]!) as Float32Array
          const size = Math.max(...numbers.map(Math.abs))
          const worst = Math.max(...numbers.map((value, at) => Math.abs(value - y[at]!)))
          expect(worst / size, `case ${i}`).toBeLessThan(tolerance)
        })
        expect(cases).toBe(84)
      })
    }
  }
})

/** x [M, K] times w [K, N], summed in float64. */
function product(x: Float32Array, w: Float32Array, M: number, K: number, N: number): Float32Array {
  const y = new Float64Array(M * N)
  for (let m = 0; m < M; m++)
    for (let k = 0; k < K; k++) for (let n = 0; n < N; n++) y[m * N + n]! += x[m * K + k]! * w[k * N + n]!
  return Float32Array.from(y)
}
