/** @file Misspelled names find the one that was meant, and other words find none. */

import { expect, test } from 'vitest'
import { nearestName } from '../../../src/quant/terms/nearest-name.ts'

test.each([
  ['smaples', 'samples'],
  ['seq_len', 'seqLen'],
  ['SAMPLES', 'samples'],
  ['calip', 'calib'],
  ['calibration', undefined],
  ['zzz', undefined],
  ['', undefined],
])('%s -> %s', (given, expected) => {
  expect(nearestName(given, ['samples', 'seqLen', 'calib'])).toBe(expected)
})
