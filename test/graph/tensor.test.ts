/** @file Element types, and bytes in memory and on disk. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { byteLength, dtypeFromNumber, dtypeNumber, isFloat } from '../../src/graph/dtype.ts'
import {
  elementCount,
  floatTensor,
  int64Tensor,
  readBytes,
  readElements,
  readNumbers,
  sizeBytes,
  type Tensor,
  tensorOf,
} from '../../src/graph/tensor.ts'
import { isFileRange, readRange } from '../../src/files/file-range.ts'
import { floatBytes } from '../helpers/onnx-files.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const file = join(tempDir(), 'weights')
writeFileSync(file, Buffer.concat([Uint8Array.of(9), floatBytes(4)]))
const onDisk: Tensor = { dtype: 'float32', dims: [2], data: { file, offset: 5, length: 8 } }

describe('element types', () => {
  it('have the numbers of onnx.proto', () => {
    const numbers = { float32: 1, int64: 7, bool: 9, bfloat16: 16, uint4: 21, int4: 22, int2: 26 } as const
    for (const [name, number] of Object.entries(numbers)) {
      expect(dtypeNumber(name as keyof typeof numbers)).toBe(number)
      expect(dtypeFromNumber(number)).toBe(name)
    }
    expect(() => dtypeFromNumber(0)).toThrow(expect.objectContaining({ code: 'E_UNSUPPORTED' }))
  })

  it('have widths, packed below a byte', () => {
    expect([byteLength('float32', 3), byteLength('int4', 3), byteLength('uint2', 5), byteLength('string', 3)]).toEqual([
      12, 2, 2, 0,
    ])
    expect(['float16', 'bfloat16', 'int8'].map(dtype => isFloat(dtype as 'int8'))).toEqual([true, true, false])
  })
})

describe('tensors', () => {
  it('on disk are read where they lie, aligned or not', () => {
    expect(isFileRange(onDisk.data)).toBe(true)
    expect(sizeBytes(onDisk)).toBe(8)
    expect(readNumbers(onDisk)).toEqual([1, 2])
    expect(readElements(onDisk)).toEqual(Float32Array.of(1, 2))
  })

  it('say what is wrong with their file', () => {
    const message = (text: string) =>
      expect.objectContaining({ code: 'E_EXTERNAL_DATA', message: expect.stringContaining(text) })
    expect(() => readRange({ file: `${file}.gone`, offset: 0, length: 1 })).toThrow(message(`${file}.gone`))
    expect(() => readRange({ file, offset: 10, length: 8 })).toThrow(message('ends before byte 18'))
  })

  it('in memory are viewed without a copy when aligned, with one when not', () => {
    const bytes = new Uint8Array(17)
    const aligned = readElements({ dtype: 'float64', dims: [1], data: bytes.subarray(8, 16) })
    expect(aligned.buffer).toBe(bytes.buffer)
    bytes.set(floatBytes(2), 1)
    expect(readElements({ dtype: 'float32', dims: [2], data: bytes.subarray(1, 9) })).toEqual(Float32Array.of(0, 1))
  })

  it('are made from numbers', () => {
    expect(readElements(floatTensor([2, 1], [1, 2], 'float64'))).toEqual(Float64Array.of(1, 2))
    expect(readElements(int64Tensor([2], [-1, 2 ** 40]))).toEqual(BigInt64Array.of(-1n, 2n ** 40n))
    expect(readBytes(tensorOf('uint8', [2], Uint8Array.of(1, 2)))).toEqual(Uint8Array.of(1, 2))
    expect([elementCount([]), elementCount([2, 0, 3])]).toEqual([1, 0])
    expect(() => floatTensor([3], [1])).toThrow('1 elements do not fill dims [3]')
    expect(() => readElements({ dtype: 'int4', dims: [2], data: new Uint8Array(1) })).toThrow('int4')
  })
})
