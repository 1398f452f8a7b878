/** @file Rounding of stored weights in tiles gives what the definitions give at once, bit for bit; and rows of tables. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Elements, readElements, type Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { quantizeWeight } from '../../../src/kernels/weights.ts'
import { readFloats, toFloat16Bits } from '../../../src/kernels/float16.ts'
import { packMatMulNBits, type PackedWeight } from '../../../src/kernels/pack/matmul-nbits.ts'
import { packRounded, roundStored, tableRows } from '../../../src/kernels/pack/rounded.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import type { StoredWeight } from '../../../src/kernels/round/tile-layout.ts'
import { transpose2d } from '../../../src/kernels/transpose.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise, weightCases, weightsOf } from '../weights.ts'

const folder = tempDir()

/** Tensors as arrays of their bytes, to be compared. */
const bytesOf = ({ b, scales, zeroPoints, ...rest }: PackedWeight) => ({
  ...rest,
  tensors: [b, scales, zeroPoints].map(
    tensor => tensor && { dims: tensor.dims, dtype: tensor.dtype, data: [...(tensor.data as Uint8Array)] },
  ),
})

const TYPES = ['float32', 'float16', 'bfloat16', 'float64'] as const
type Type = (typeof TYPES)[number]

/** Numbers a type can hold, as its elements. */
function elementsOf(w: Float32Array, dtype: Type): Elements {
  if (dtype === 'float16') return toFloat16Bits(w)
  if (dtype === 'bfloat16')
    return Uint16Array.from(new Uint32Array(w.buffer, w.byteOffset, w.length), bits => bits >>> 16)
  return dtype === 'float64' ? Float64Array.from(w) : w
}

/** A weight [K, N] as float32, and stored in either orientation; the numbers are those the type can hold. */
function storedCases(w: Float32Array, K: number, N: number, dtype: Type): { w: Float32Array; stored: StoredWeight[] } {
  const exact = readFloats(tensorOf(dtype, [K, N], elementsOf(w, dtype)))
  const tensor = (values: Float32Array, dims: readonly number[]) => tensorOf(dtype, dims, elementsOf(values, dtype))
  return {
    w: exact,
    stored: [
      { name: 'w', tensor: tensor(exact, [K, N]), transposed: false },
      { name: 'w', tensor: tensor(transpose2d(exact, K, N), [N, K]), transposed: true },
    ],
  }
}

const types = fc.constantFrom(...TYPES)
/** From less than a row to all at once. */
const tileSizes = fc.constantFrom(1, 700, 3000, undefined)

describe('a stored weight rounded in tiles', () => {
  test('is what quantizing it at once gives, in either orientation and any type', () => {
    fc.assert(
      fc.property(weightCases, types, tileSizes, (weight, dtype, tileBytes) => {
        const { K, N, quantizer } = weight
        const { w, stored } = storedCases(weightsOf(weight), K, N, dtype)
        const expected = quantizeWeight(w, K, N, quantizer)
        for (const each of stored) expect(roundStored(each, quantizer, tileBytes)).toEqual(expected)
      }),
      { numRuns: 150 },
    )
  })

  test('is packed as it is when quantized at once', () => {
    const packable = fc.record({
      bits: fc.integer({ min: 2, max: 8 }),
      group: fc.constantFrom(16, 32, 48, 64, 1000),
      symmetric: fc.boolean(),
      scaleDtype: fc.constantFrom('float32' as const, 'float16' as const),
    })
    // Wide enough for several strips of columns, deep enough for several blocks.
    const size = fc.record({ K: fc.integer({ min: 1, max: 300 }), N: fc.integer({ min: 1, max: 140 }) })
    fc.assert(
      fc.property(packable, size, types, tileSizes, (quantizer, { K, N }, dtype, tileBytes) => {
        const { w, stored } = storedCases(noise(K * N, K + N), K, N, dtype)
        const expected = packMatMulNBits({ ...quantizeWeight(w, K, N, quantizer), ...quantizer, K, N })
        for (const each of stored) expect(bytesOf(packRounded(each, quantizer, tileBytes))).toEqual(bytesOf(expected))
      }),
      { numRuns: 60 },
    )
  })

  test('is read from where it lies in a file', () => {
    const [K, N] = [64, 20]
    const w = noise(K * N, 9)
    const file = join(folder, 'weights')
    writeFileSync(file, Buffer.concat([Buffer.alloc(12), Buffer.from(w.buffer)]))
    const tensor: Tensor = { dtype: 'float32', dims: [K, N], data: { file, offset: 12, length: 4 * K * N } }
    const quantizer: WeightQuantizer = { bits: 4, group: 16, symmetric: false, scaleDtype: 'float32' }
    expect(roundStored({ name: 'w', tensor, transposed: false }, quantizer, 1)).toEqual(
      quantizeWeight(w, K, N, quantizer),
    )
    const short = { ...tensor, data: { file, offset: 16, length: 4 * K * N } }
    expect(() => roundStored({ name: 'w', tensor: short, transposed: false }, quantizer)).toThrow(
      expect.objectContaining({ code: 'E_EXTERNAL_DATA' }),
    )
  })

  // Beside three columns, which the definition rounds, enough of them for the kernels.
  const strange = [NaN, Infinity, -Infinity].flatMap(value =>
    [3, 11].flatMap(cols => (['float32', 'float16', 'bfloat16'] as const).map(dtype => ({ value, cols, dtype }))),
  )
  test.each(strange)(
    'names the weight that is $value, and where: $cols columns of $dtype',
    ({ value, cols, dtype }) => {
      const data = new Float32Array(4 * cols)
      data[cols + 1] = value
      const quantizer: WeightQuantizer = { bits: 4, group: 32, symmetric: false, scaleDtype: 'float32' }
      const tensor = tensorOf(dtype, [4, cols], elementsOf(data, dtype))
      for (const transposed of [false, true])
        expect(() => packRounded({ name: 'lm_head', tensor, transposed }, quantizer)).toThrow(
          expect.objectContaining({
            code: 'E_UNSUPPORTED',
            message: `the weight of lm_head holds ${value} at [1, 1]: only finite numbers can be quantized`,
          }),
        )
    },
  )

  test('refuses what is not made of floating-point numbers', () => {
    const tensor = tensorOf('int32', [4, 4], new Int32Array(16))
    const quantizer: WeightQuantizer = { bits: 4, group: 32, symmetric: false, scaleDtype: 'float32' }
    expect(() => packRounded({ name: 'w', tensor, transposed: false }, quantizer)).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED' }),
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
