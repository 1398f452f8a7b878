import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readElements, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { quantizeWeight } from '../../src/kernels/fake-quantize.ts'
import { toFloat16Bits, fromFloat16Bits } from '../../src/kernels/float16.ts'
import { packMatMulNBits, type PackedWeight } from '../../src/kernels/pack.ts'
import { packRounded, tableRows } from '../../src/kernels/pack-rounded.ts'
import type { WeightQuantizer } from '../../src/kernels/qparams.ts'
import { transpose2d } from '../../src/kernels/tensor.ts'
import { noise } from './weights.ts'

/** Tensors as arrays of their bytes, to be compared. */
const bytesOf = ({ b, scales, zeroPoints, ...rest }: PackedWeight) => ({
  ...rest,
  tensors: [b, scales, zeroPoints].map(
    tensor => tensor && { dims: tensor.dims, dtype: tensor.dtype, data: [...(tensor.data as Uint8Array)] },
  ),
})

const quantizers: fc.Arbitrary<WeightQuantizer> = fc.record({
  bits: fc.constantFrom(2, 3, 4, 8),
  group: fc.constantFrom(16, 32, 64),
  symmetric: fc.boolean(),
  scaleDtype: fc.constantFrom('float32' as const, 'float16' as const),
})

describe('a weight packed slice by slice', () => {
  test('is what packing it at once gives, in either orientation and type', () => {
    fc.assert(
      fc.property(
        quantizers,
        fc.integer({ min: 1, max: 70 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 41 }),
        fc.boolean(),
        (quantizer, K, N, slice, half) => {
          const bits = toFloat16Bits(noise(K * N, K + N))
          const w = fromFloat16Bits(bits)
          const expected = packMatMulNBits({ ...quantizeWeight(w, K, N, quantizer), ...quantizer, K, N })
          const stored = (elements: Float32Array, dims: readonly number[]): Tensor =>
            half ? tensorOf('float16', dims, toFloat16Bits(elements)) : tensorOf('float32', dims, elements)
          const weights = [
            { name: 'w', tensor: stored(w, [K, N]), transposed: false },
            { name: 'w', tensor: stored(transpose2d(w, K, N), [N, K]), transposed: true },
          ]
          for (const weight of weights)
            for (const width of [slice, undefined])
              expect(bytesOf(packRounded(weight, quantizer, width))).toEqual(bytesOf(expected))
        },
      ),
      { numRuns: 60 },
    )
  })

  test.each([false, true])('names the weight that is not finite, and where; transposed: %s', transposed => {
    const data = new Float32Array(6)
    data[4] = NaN
    const quantizer: WeightQuantizer = { bits: 4, group: 32, symmetric: false, scaleDtype: 'float32' }
    const tensor = tensorOf('float32', [2, 3], data)
    expect(() => packRounded({ name: 'lm_head', tensor, transposed }, quantizer)).toThrow(
      expect.objectContaining({
        code: 'E_UNSUPPORTED',
        message: 'the weight of lm_head holds NaN at [1, 1]: only finite weights can be quantized',
      }),
    )
  })
})

describe('rows of a table', () => {
  const packed = (K: number, N: number, bits: number) => {
    const quantizer: WeightQuantizer = { bits, group: 32, symmetric: false, scaleDtype: 'float32' }
    return packMatMulNBits({ ...quantizeWeight(noise(K * N, 3), K, N, quantizer), ...quantizer, K, N })
  }

  test('are the bytes of MatMulNBits where blocks fill them', () => {
    const weight = packed(64, 3, 4)
    expect(tableRows(weight, 64)).toEqual({ ...weight.b, dims: [3, 32] })
  })

  test.each([2, 4, 8])('leave out what pads the last block: %i bits', bits => {
    const weight = packed(40, 3, bits)
    const rowBytes = (40 * bits) / 8
    const rows = readElements(tableRows(weight, 40)) as Uint8Array
    expect(tableRows(weight, 40).dims).toEqual([3, rowBytes])
    const bytes = readElements(weight.b) as Uint8Array
    for (let n = 0; n < 3; n++) {
      const start = n * 2 * 32 * (bits / 8)
      expect(rows.slice(n * rowBytes, (n + 1) * rowBytes)).toEqual(bytes.slice(start, start + rowBytes))
    }
  })
})
