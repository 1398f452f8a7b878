/** @file All storage forms of a TensorProto give the same bytes; contradictions are refused by name. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { decodeTensor } from '../../../src/graph/onnx-file/decode-tensor.ts'
import { byteLength, type DType, dtypeNumber } from '../../../src/graph/dtype.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import type { Onnx } from '../../../src/graph/onnx-file/onnx-proto.ts'
import { isFileRange } from '../../../src/files/file-range.ts'
import { readBytes, type Tensor } from '../../../src/graph/tensor.ts'
import { encodeVarint, recordHeader } from '../../../src/graph/onnx-file/wire.ts'
import { linearModel, modelBytes, numberRecord, withUnknown } from '../../helpers/onnx-files.ts'
import { tempDir } from '../../helpers/temp-dir.ts'

const path = join(tempDir(), 'model.onnx')

/** The tensor as it comes out of a file. */
function throughFile(proto: Onnx.ITensorProto): Tensor {
  const model = linearModel()
  model.graph!.initializer!.push(Object.assign(proto, { name: 't' }))
  writeFileSync(path, modelBytes(model))
  return loadModel(path).graph.initializers.at(-1)!.tensor!
}

const bytesOf = (elements: ArrayBufferView): Uint8Array =>
  new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength)
const repeat = <T>(values: readonly T[], count: number): T[] =>
  Array.from({ length: count }, (_, i) => values[i % values.length]!)

type Row = [DType, (count: number) => Onnx.ITensorProto, (count: number) => ArrayBufferView]

const big = [0n, 1n, -1n, 2n ** 31n, -(2n ** 31n), 2n ** 63n - 1n, -(2n ** 63n), 127n, 128n, 2n ** 35n]
const long = (value: bigint) => {
  const word = (shift: bigint) => Number(BigInt.asIntN(32, value >> shift))
  return { low: word(0n), high: word(32n), unsigned: false } as unknown as number
}

const rows: Row[] = [
  ['float32', n => ({ floatData: repeat([1.5, -2, 0], n) }), n => Float32Array.from(repeat([1.5, -2, 0], n))],
  ['float64', n => ({ doubleData: repeat([0.1, -7], n) }), n => Float64Array.from(repeat([0.1, -7], n))],
  ['int64', n => ({ int64Data: repeat(big, n).map(long) }), n => BigInt64Array.from(repeat(big, n))],
  [
    'uint64',
    n => ({ uint64Data: repeat([2n ** 64n - 1n, 5n], n).map(long) }),
    n => BigUint64Array.from(repeat([2n ** 64n - 1n, 5n], n)),
  ],
  ['uint32', n => ({ uint64Data: repeat([2 ** 32 - 1, 7], n) }), n => Uint32Array.from(repeat([2 ** 32 - 1, 7], n))],
  [
    'int32',
    n => ({ int32Data: repeat([-1, 2 ** 31 - 1, -(2 ** 31), 300], n) }),
    n => Int32Array.from(repeat([-1, 2 ** 31 - 1, -(2 ** 31), 300], n)),
  ],
  ['int16', n => ({ int32Data: repeat([-1, 32767], n) }), n => Int16Array.from(repeat([-1, 32767], n))],
  ['uint16', n => ({ int32Data: repeat([65535, 1], n) }), n => Uint16Array.from(repeat([65535, 1], n))],
  ['int8', n => ({ int32Data: repeat([-128, 127, 0], n) }), n => Int8Array.from(repeat([-128, 127, 0], n))],
  ['uint8', n => ({ int32Data: repeat([255, 0], n) }), n => Uint8Array.from(repeat([255, 0], n))],
  ['bool', n => ({ int32Data: repeat([1, 0, 0], n) }), n => Uint8Array.from(repeat([1, 0, 0], n))],
  ['float16', n => ({ int32Data: repeat([0x3c00, 0xbc00], n) }), n => Uint16Array.from(repeat([0x3c00, 0xbc00], n))],
  ['bfloat16', n => ({ int32Data: repeat([0x3f80], n) }), n => Uint16Array.from(repeat([0x3f80], n))],
  [
    'uint4', // two elements an entry
    n => ({ int32Data: repeat([0x21, 0xf3], byteLength('uint4', n)) }),
    n => Uint8Array.from(repeat([0x21, 0xf3], byteLength('uint4', n))),
  ],
]

describe('values in typed fields', () => {
  it.each(rows)('%s, few and many, are the same as raw data', (dtype, typed, expected) => {
    for (const count of [0, 1, 7, 3000]) {
      const header = { dims: [count], dataType: dtypeNumber(dtype) }
      const want = bytesOf(expected(count))
      expect(readBytes(throughFile({ ...header, ...typed(count) }))).toEqual(want)
      expect(readBytes(throughFile({ ...header, rawData: want }))).toEqual(want)
    }
  })

  it('stay on disk when their layout is that of raw data', () => {
    const floats = throughFile({ dims: [500], dataType: 1, floatData: repeat([1], 500) })
    expect(isFileRange(floats.data)).toBe(true)
  })

  it('may come one record an element', () => {
    const records = [3, 200, 5].map(value => numberRecord(7, value))
    expect(readBytes(throughFile(withUnknown({ name: 't', dims: [3], dataType: 7 }, ...records)))).toEqual(
      bytesOf(BigInt64Array.of(3n, 200n, 5n)),
    )
  })

  it('of strings are kept as bytes', () => {
    const stringData = [Buffer.from('a'), Buffer.from([0xff, 0xfe])]
    const tensor = throughFile({ dims: [2], dataType: 8, stringData })
    expect(tensor.strings!.map(text => [...text])).toEqual([[97], [0xff, 0xfe]])
  })
})

describe('tensors that contradict themselves', () => {
  const raw = (length: number) => ({ rawData: new Uint8Array(length) })
  const cut = (length: number) => {
    const content = [9, 0, length].flatMap(encodeVarint)
    return Buffer.concat([recordHeader(19999, content.length), Uint8Array.from(content)])
  }
  it.each<[string, Onnx.ITensorProto, string, RegExp]>([
    ['too few bytes', { dims: [4], dataType: 1, ...raw(12) }, 'E_TRUNCATED', /"t".*float32\[4\].*12 bytes.*16/],
    ['no bytes', { dims: [4], dataType: 1 }, 'E_TRUNCATED', /has 0 bytes/],
    ['too many bytes', { dims: [4], dataType: 1, ...raw(20) }, 'E_NOT_ONNX', /20 bytes where 16/],
    ['too many bytes on disk', { dims: [4], dataType: 1, ...raw(2000) }, 'E_NOT_ONNX', /2000 bytes where 16/],
    ['values in the wrong field', { dims: [2], dataType: 7, int32Data: [1, 2] }, 'E_TRUNCATED', /has 0 bytes/],
    ['a negative dim', { dims: [-1], dataType: 1, ...raw(4) }, 'E_NOT_ONNX', /impossible dims \[-1\]/],
    ['an unknown type', { dims: [1], dataType: 99, ...raw(4) }, 'E_UNSUPPORTED', /"t".*element type 99/],
    ['too few strings', { dims: [2], dataType: 8, stringData: [Buffer.from('a')] }, 'E_TRUNCATED', /1 strings/],
    ['a segment', { dims: [1], dataType: 1, segment: { begin: 0, end: 1 }, ...raw(4) }, 'E_UNSUPPORTED', /"t"/],
    [
      'a forged mark of ours',
      withUnknown({ name: 't', dims: [1], dataType: 1 }, cut(1e9)),
      'E_NOT_ONNX',
      /"t" has its values more than once/,
    ],
  ])('are refused: %s', (_, proto, code, message) => {
    expect(() => throughFile(proto)).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }))
  })
})

it('decodes without a file what is all there', () => {
  const tensor = decodeTensor({ dims: [1], dataType: 1, rawData: bytesOf(Float32Array.of(2)) }, 'a tensor')
  expect(tensor).toMatchObject({ dtype: 'float32', dims: [1] })
})
