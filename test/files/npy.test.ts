/** @file .npy files: what is written is read, what NumPy writes is read, and no header makes us believe it. */

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { QuantError } from '../../src/errors.ts'
import { type NpyArray, readNpy } from '../../src/files/npy.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { writeNpy } from '../helpers/write-npy.ts'

/** A file with this header text and body, of the given format version. */
function fileWith(header: string, body: Uint8Array, version = 1): string {
  const path = join(testFolder(), 'array.npy')
  const size = Buffer.alloc(version === 1 ? 2 : 4)
  if (version === 1) size.writeUInt16LE(header.length)
  else size.writeUInt32LE(header.length)
  const start = Buffer.from([0x93, ...Buffer.from('NUMPY'), version, 0])
  writeFileSync(path, Buffer.concat([start, size, Buffer.from(header, 'latin1'), body]))
  return path
}

const dict = (descr: string, shape: string, fortran = 'False') =>
  `{'descr': ${descr}, 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`

const arrays: NpyArray[] = [
  { dtype: 'int64', dims: [2, 3], data: BigInt64Array.of(1n, -2n, 3n, 4n, 5n, 2n ** 60n) },
  { dtype: 'int32', dims: [3], data: Int32Array.of(-1, 0, 2 ** 31 - 1) },
  { dtype: 'uint16', dims: [1, 2, 1], data: Uint16Array.of(7, 65535) },
  { dtype: 'uint8', dims: [], data: Uint8Array.of(255) },
  { dtype: 'float32', dims: [2], data: Float32Array.of(1.5, -0) },
  { dtype: 'int64', dims: [0], data: new BigInt64Array(0) },
]

test.each(arrays)('writes and reads $dtype $dims', array => {
  const path = join(testFolder(), 'array.npy')
  writeNpy(path, array)
  expect(readNpy(path)).toEqual(array)
  // NumPy's own readers want the numbers at a multiple of 64 bytes.
  expect((readFileSync(path).length - array.data.byteLength) % 64).toBe(0)
})

test.each([1, 2, 3])('reads version %i as NumPy lays it out', version => {
  const path = fileWith(dict(`'<u2'`, '(2, 2)'), Uint8Array.of(1, 0, 2, 0, 3, 0, 0, 1), version)
  expect(readNpy(path)).toEqual({ dtype: 'uint16', dims: [2, 2], data: Uint16Array.of(1, 2, 3, 256) })
})

test('a single axis is the same in Fortran order', () => {
  expect(readNpy(fileWith(dict(`'|u1'`, '(2,)', 'True'), Uint8Array.of(1, 2))).dims).toEqual([2])
})

test.each([
  ['more numbers than there are', dict(`'<i8'`, '(3,)'), 'is 24 bytes, but has 16'],
  ['fewer numbers than there are', dict(`'<i8'`, '(1,)'), 'is 8 bytes, but has 16'],
  ['a terabyte', dict(`'<i8'`, '(137438953472,)'), 'but has 16'],
  ['dims whose product overflows', dict(`'<i8'`, '(9007199254740993, 9007199254740993)'), 'but has 16'],
  ['dims beyond all numbers', dict(`'<i8'`, `(${'9'.repeat(400)},)`), 'but has 16'],
  ['a zero beside an absurd dim', dict(`'<i8'`, `(${'9'.repeat(400)}, 0)`), 'but has 16'],
  ['100 dims', dict(`'<i8'`, `(${'1, '.repeat(100)})`), 'says it has 100 dimensions'],
  ['big-endian numbers', dict(`'>i8'`, '(2,)'), `type '>i8'`],
  ['records', dict(`[('a', '<i8')]`, '(2,)'), 'holds records'],
  ['Fortran order', dict(`'<i8'`, '(2, 1, 2)', 'True'), 'Fortran order'],
  ['negative dims', dict(`'<i8'`, '(-2,)'), 'header that cannot be read'],
  ['no dict', 'hello', 'header that cannot be read'],
])('refuses a header with %s', (_, header, message) => {
  const path = fileWith(header, new Uint8Array(16))
  expect(() => readNpy(path)).toThrow(expect.objectContaining({ code: 'E_CALIBRATION' }))
  expect(() => readNpy(path)).toThrow(message)
  expect(() => readNpy(path)).toThrow(path)
})

test('refuses a header longer than any array needs, before reading it', () => {
  const path = fileWith(dict(`'<i8'`, '(2,)').padEnd(20_000), new Uint8Array(16))
  expect(() => readNpy(path)).toThrow('header of 20000 bytes')
})

test('a missing file and a folder are told apart', () => {
  const folder = testFolder()
  expect(() => readNpy(join(folder, 'no.npy'))).toThrow(expect.objectContaining({ code: 'E_FILE_NOT_FOUND' }))
  expect(() => readNpy(folder)).toThrow('is not a file')
})

test('cut or changed anywhere, a file is read or refused, never worse', () => {
  const path = join(testFolder(), 'array.npy')
  writeNpy(path, arrays[0]!)
  const good = readFileSync(path)
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), fc.boolean(), (at, byte, cut) => {
      const bytes = Buffer.from(good)
      bytes[at] = byte
      writeFileSync(path, cut ? bytes.subarray(0, at) : bytes)
      try {
        const { dims, data } = readNpy(path)
        expect(data.length).toBe(dims.reduce((product, dim) => product * dim, 1))
      } catch (error) {
        expect(error).toBeInstanceOf(QuantError)
      }
    }),
    { numRuns: 150 },
  )
})
