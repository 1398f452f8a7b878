/** @file Activations on disk come back as they were written, in any order, and leave nothing behind. */

import { existsSync, openSync, readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { ActivationStore } from '../../src/calibration/activation-store.ts'
import { tensorOf } from '../../src/graph/tensor.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { unless } from '../helpers/unless.ts'

let folder: string
beforeEach(() => {
  folder = testFolder()
})

const row = (index: number, length: number) => Float32Array.from({ length }, (_, i) => index * 1000 + i)

test('samples written in any order are read back in any range', () => {
  fc.assert(
    fc.property(
      fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 6 }),
      fc.nat(5),
      fc.nat(6),
      (order, first, count) => {
        const store = new ActivationStore(join(folder, 'x.f32'), 6, [2, 3])
        try {
          for (const index of order) store.write(index, row(index, 6))
          const some = Math.min(count, 6 - first)
          const expected = Array.from({ length: some }, (_, i) => [...row(first + i, 6)]).flat()
          expect([...store.read(first, some)]).toEqual(expected)
        } finally {
          store.remove()
        }
      },
    ),
    { numRuns: 40 },
  )
  expect(readdirSync(folder)).toEqual([])
})

test('several samples go in at once, and a part of a larger array too', () => {
  const store = new ActivationStore(join(folder, 'x.f32'), 4, [2])
  onTestFinished(() => store.remove())
  store.write(1, Float32Array.of(9, 1, 2, 3, 4, 9).subarray(1, 5))
  expect([...store.read(1, 2)]).toEqual([1, 2, 3, 4])
})

test('float16: half the bytes, numbers rounded, tensors in the type of the store', () => {
  const store = new ActivationStore(join(folder, 'x.f16'), 2, [3], false, 'float16')
  onTestFinished(() => store.remove())
  expect(store.sampleBytes).toBe(6)
  store.write(0, Float32Array.of(0.1, -2, 70000))
  const bits = tensorOf('float16', [1, 3], Uint16Array.of(0x3c00, 0xc000, 0x0001))
  store.writeTensor(1, bits)
  expect(statSync(store.path).size).toBe(12)
  expect([...store.read(0, 2)]).toEqual([0.0999755859375, -2, Infinity, 1, -2, 2 ** -24])
  const { dtype, dims } = store.tensor(0, 2)
  expect({ dtype, dims }).toEqual({ dtype: 'float16', dims: [2, 3] })
  expect(store.tensor(1, 1)).toEqual(bits)
  expect(() => store.writeTensor(0, tensorOf('float32', [3], new Float32Array(3)))).toThrow(
    'not whole samples of float16',
  )
})

test('positions beyond 4 GiB are kept apart', () => {
  const width = 2 ** 20
  const store = new ActivationStore(join(folder, 'x.f32'), 2500, [width])
  onTestFinished(() => store.remove())
  expect(statSync(store.path).size).toBe(2500 * width * 4) // sparse: takes no room until written
  store.write(2400, new Float32Array(width).fill(1))
  // 2400 - 1024 samples is exactly 4 GiB less: 32-bit arithmetic would meet itself there.
  store.write(2400 - 1024, new Float32Array(width).fill(2))
  expect(store.read(2400, 1)[0]).toBe(1)
  expect(store.read(2400 - 1024, 1)[width - 1]).toBe(2)
})

test('refuses what was never written, what does not fit, and use after close', () => {
  const store = new ActivationStore(join(folder, 'x.f32'), 2, [2])
  store.write(0, Float32Array.of(1, 2))
  expect(() => store.read(0, 2)).toThrow('sample 1')
  expect(() => store.read(1, 2)).toThrow('samples 1 to 3 of 2')
  expect(() => store.write(2, Float32Array.of(1, 2))).toThrow('samples 2 to 3 of 2')
  expect(() => store.write(0, Float32Array.of(1))).toThrow('not whole samples')
  store.remove()
  store.remove()
  expect(existsSync(store.path)).toBe(false)
  expect(() => store.read(0, 1)).toThrow('closed')
})

test('a folder that cannot be written is E_OUTPUT', () => {
  expect(() => new ActivationStore(join(folder, 'missing', 'x'), 1, [1])).toThrow(
    expect.objectContaining({ code: 'E_OUTPUT' }),
  )
})

test(
  'a full disk is E_OUTPUT and says how much is needed',
  unless(existsSync('/dev/full') ? undefined : 'no /dev/full'),
  () => {
    const store = new ActivationStore(join(folder, 'x.f32'), 1, [4])
    onTestFinished(() => store.remove())
    Object.assign(store, { descriptor: openSync('/dev/full', 'r+') })
    expect(() => store.write(0, new Float32Array(4))).toThrow(
      expect.objectContaining({ code: 'E_OUTPUT', hint: expect.stringMatching(/disk is full.* 1 MiB/) as string }),
    )
  },
)

test('what was closed can be opened again, unless it is not what it was', () => {
  const path = join(folder, 'x.f32')
  const store = new ActivationStore(path, 2, [2])
  store.write(0, Float32Array.of(1, 2, 3, 4))
  store.sync()
  store.close()
  const again = new ActivationStore(path, 2, [2], true)
  expect([...again.read(0, 2)]).toEqual([1, 2, 3, 4])
  again.close()
  const damaged = expect.objectContaining({
    code: 'E_RESUME',
    hint: expect.stringContaining('`fresh: true`') as string,
  }) as Error
  expect(() => new ActivationStore(path, 3, [2], true)).toThrow(damaged)
  truncateSync(path, 12)
  expect(() => new ActivationStore(path, 2, [2], true)).toThrow(damaged)
  expect(() => new ActivationStore(join(folder, 'none.f32'), 2, [2], true)).toThrow(damaged)
})
