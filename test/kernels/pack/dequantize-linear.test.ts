/** @file Weights packed for DequantizeLinear: onnxruntime's own kernel gives the numbers that the codes stand for. */

import { describe, expect, test } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { readElements } from '../../../src/graph/tensor.ts'
import { dequantizeOpset, packDequantize, type PackedDequantize } from '../../../src/kernels/pack/dequantize-linear.ts'
import { packAs, packStored } from '../../../src/kernels/pack/layouts.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import { floatTensor } from '../../../src/graph/tensor.ts'
import { noise } from '../weights.ts'

/** A random weight off center, quantized. */
function quantized(K: number, N: number, quantizer: WeightQuantizer) {
  const w = noise(K * N, quantizer.bits).map((x, i) => (x + (i % 3) * 0.3) * (1 + (i % N)))
  return { ...quantizeWeight(w, K, N, quantizer), ...quantizer, K, N }
}

/** The weight as a DequantizeLinear node gives it; the graph is run as it is written. */
async function unpacked({ blockSize, codes, scales, zeroPoints }: PackedDequantize): Promise<Float32Array> {
  const g = new Builder()
  const inputs = [codes, scales, ...(zeroPoints ? [zeroPoints] : [])].map(tensor => g.initializer('c', tensor))
  const attributes: Record<string, number> = blockSize === undefined ? { axis: 1 } : { axis: 0, block_size: blockSize }
  const w = g.op('DequantizeLinear', inputs, attributes)
  g.output(scales.dtype === 'float16' ? g.cast(w, 'float32') : w, 'w')
  return readElements((await runGraph(g.graph, {}, { optimization: 'disabled' })).w!) as Float32Array
}

describe('packDequantize', () => {
  const cases = [2, 3, 4, 5, 6, 7, 8].flatMap(bits => [false, true].map(symmetric => [bits, symmetric] as const))

  test.each(cases)(
    '%i bits, symmetric %s: groups and channels, N odd, the last group short',
    async (bits, symmetric) => {
      for (const [K, N, group] of [
        [48, 6, 16],
        [40, 7, 16],
        [40, 7, 64],
        [9, 5, 9],
        [64, 3, 32],
      ] as const) {
        const weight = quantized(K, N, { bits, group, symmetric, scaleDtype: 'float32' })
        const packed = packDequantize(weight)
        const what = `[${K}, ${N}] in groups of ${group}`
        const blocks = Math.ceil(K / group)
        expect(packed.codes.dtype, what).toBe(`${symmetric ? 'int' : 'uint'}${bits <= 4 ? 4 : 8}`)
        expect(packed.codes.dims).toEqual([K, N])
        expect(packed.codes.data.length, what).toBe(bits <= 4 ? Math.ceil((K * N) / 2) : K * N)
        expect(packed.scales.dims).toEqual(group >= K ? [N] : [blocks, N])
        expect(packed.zeroPoints?.dims).toEqual(symmetric ? undefined : packed.scales.dims)
        expect(packed.zeroPoints?.dtype ?? packed.codes.dtype).toBe(packed.codes.dtype)
        const got = await unpacked(packed)
        const expected = dequantize(weight, K, N, group)
        expect(Math.max(...got.map((x, i) => Math.abs(x - expected[i]!))), what).toBeLessThan(1e-6 * N)
      }
    },
  )

  test('the first of two codes of 4 bits is in the low half of a byte', () => {
    const how = { bits: 4, group: 2, scaleDtype: 'float32', K: 2, N: 2 } as const
    const numbers = { codes: Uint8Array.of(1, 2, 15, 8), scale: Float32Array.of(1, 1), zeroPoint: Uint8Array.of(8, 8) }
    expect(packDequantize({ ...numbers, ...how, symmetric: false })).toMatchObject({
      codes: { dtype: 'uint4', data: Uint8Array.of(0x21, 0x8f) },
      zeroPoints: { dtype: 'uint4', dims: [2], data: Uint8Array.of(0x88) },
    })
    expect(packDequantize({ ...numbers, ...how, symmetric: true }).codes).toMatchObject({
      dtype: 'int4',
      data: Uint8Array.of(0xa9, 0x07), // -7, -6; 7, 0
    })
  })

  test('float16 scales', async () => {
    const weight = quantized(32, 4, { bits: 4, group: 16, symmetric: true, scaleDtype: 'float16' })
    const packed = packDequantize(weight)
    expect(packed.scales.dtype).toBe('float16')
    const expected = dequantize(weight, 32, 4, 16)
    ;(await unpacked(packed)).forEach((x, i) => expect(x).toBeCloseTo(expected[i]!, 2))
  })

  test('a stored weight rounded to nearest gives the same bytes as its codes', () => {
    const [K, N] = [40, 8]
    const w = noise(K * N, 3)
    const quantizer: WeightQuantizer = { bits: 4, group: 16, symmetric: false, scaleDtype: 'float32' }
    const expected = packAs('dequantize', { ...quantizeWeight(w, K, N, quantizer), ...quantizer, K, N })
    const stored = { name: 'w', tensor: floatTensor([K, N], w), transposed: false }
    expect(packStored('dequantize', stored, quantizer)).toEqual(expected)
  })
})

test.each([
  [4, 64, 'float32', 21],
  [4, 16, 'float32', 21],
  [8, 16, 'float32', 21],
  [8, 64, 'float32', 13],
  [8, 128, 'float16', 19],
  [5, 64, 'float32', 13],
] as const)('%i bits in groups of %i of 64 with %s scales need opset %i', (bits, group, scaleDtype, opset) => {
  expect(dequantizeOpset(64, { bits, group, scaleDtype })).toBe(opset)
})
