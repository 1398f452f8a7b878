/** @file The batch: as asked for, as memory allows, or one where the model takes no more. */

import { expect, test } from 'vitest'
import { batchFor, withBatch } from '../../src/calibration/batch.ts'
import { QuantError } from '../../src/errors.ts'

test('batches shrink with what a sequence brings back, down to one', () => {
  expect(batchFor(2 ** 20, 1000)).toBe(32)
  expect(batchFor(2 ** 26, 1000)).toBe(4)
  expect(batchFor(2 ** 40, 1000)).toBe(1)
  expect(batchFor(2 ** 20, 3)).toBe(3)
  expect(batchFor(2 ** 20, 1000, 64)).toBe(64)
})

test('a guessed batch that the model refuses becomes one', async () => {
  const tried: number[] = []
  const onlyOne = async (batch: number) => {
    tried.push(batch)
    if (batch > 1) throw new QuantError('E_RUNTIME', 'batch')
    return batch
  }
  expect(await withBatch(undefined, 8, onlyOne)).toBe(1)
  expect(tried).toEqual([8, 1])
  await expect(withBatch(2, 8, onlyOne)).rejects.toThrow('batch')
})

test('errors of another kind are not tried again', async () => {
  const tried: number[] = []
  const aborted = async (batch: number) => {
    tried.push(batch)
    throw new Error('aborted')
  }
  await expect(withBatch(undefined, 8, aborted)).rejects.toThrow('aborted')
  expect(tried).toEqual([8])
})
