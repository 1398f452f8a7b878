/** @file Records are read back as written, with tensors on disk; any damage is noticed. */

import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { temporariesOf } from '../../src/files/atomic-file.ts'
import { isFileRange } from '../../src/files/file-range.ts'
import { readBytes, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { readRecord, writeRecord } from '../../src/files/record.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const folder = tempDir()
const path = join(folder, 'a.record')

const leaf = fc.oneof(
  fc.constant(undefined),
  fc.boolean(),
  fc.string(),
  fc.double(),
  fc.float32Array(),
  fc.uint8Array(),
  fc.int32Array(),
  fc.bigInt64Array(),
)
const value = fc.letrec(tie => ({
  tree: fc.oneof(
    { maxDepth: 3 },
    leaf,
    fc.array(tie('tree')),
    fc.dictionary(
      fc.string().filter(key => key !== '__proto__' && key !== '$'),
      tie('tree').filter(item => item !== undefined),
    ),
  ),
})).tree

test('values of any make come back as they were', () => {
  fc.assert(
    fc.property(value, item => {
      // JSON knows no negative zero, and a dictionary comes back with a prototype.
      const plain = (x: unknown): unknown =>
        Object.is(x, -0)
          ? 0
          : Array.isArray(x)
            ? x.map(plain)
            : typeof x === 'object' && x !== null && !ArrayBuffer.isView(x)
              ? Object.fromEntries(Object.entries(x).map(([key, inner]) => [key, plain(inner)]))
              : x
      writeRecord(path, item, false)
      expect(readRecord(path)).toEqual(plain(item))
    }),
    { numRuns: 200 },
  )
})

test('tensors come back as ranges of the file, also those that were ranges before', () => {
  const packed = tensorOf(
    'uint8',
    [3, 5],
    Uint8Array.from({ length: 15 }, (_, i) => i * 17),
  )
  writeRecord(path, { packed }, true)
  const once = readRecord(path) as { packed: Tensor }
  expect(isFileRange(once.packed.data)).toBe(true)
  const second = join(folder, 'b.record')
  writeRecord(second, { list: [undefined, once.packed] }, true)
  const { list } = readRecord(second) as { list: [undefined, Tensor] }
  expect([list[0], list[1].dims, list[1].dtype]).toEqual([undefined, [3, 5], 'uint8'])
  expect(readBytes(list[1])).toEqual(packed.data)
})

test('every flipped bit and every missing end is noticed', () => {
  writeRecord(path, { words: 'some', floats: Float32Array.of(1, 2, 3) }, false)
  const bytes = readFileSync(path)
  const damaged = expect.objectContaining({ code: 'E_RESUME' }) as Error
  for (let i = 0; i < bytes.length; i++) {
    const changed = Buffer.from(bytes)
    changed[i]! ^= 1 << (i % 8)
    writeFileSync(path, changed)
    expect(() => readRecord(path), `bit ${i % 8} of byte ${i}`).toThrow(damaged)
  }
  for (const length of [0, 8, 40, bytes.length - 1]) {
    writeFileSync(path, bytes)
    truncateSync(path, length)
    expect(() => readRecord(path), `${length} bytes`).toThrow(damaged)
  }
})

test('a place that cannot be written to is E_OUTPUT, and what was there stays', () => {
  writeRecord(path, 'before', false)
  expect(() => writeRecord(join(folder, 'none', 'x.record'), 'after', false)).toThrow(
    expect.objectContaining({ code: 'E_OUTPUT' }),
  )
  const gone = { file: join(folder, 'gone'), offset: 0, length: 4 }
  expect(() => writeRecord(path, { dtype: 'uint8', dims: [4], data: gone }, false)).toThrow('gone')
  expect(readRecord(path)).toBe('before')
  expect(temporariesOf(path)).toEqual([])
})
