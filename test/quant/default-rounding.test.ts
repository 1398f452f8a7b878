/** @file Rounding is learned by default only where blocks are small; what is asked for is done. */

import { expect, test } from 'vitest'
import type { Linear } from '../../src/quant/find/linears.ts'
import { roundingFor } from '../../src/quant/default-rounding.ts'

const block = (inFeatures: number, outFeatures: number) => ({ linears: [{ inFeatures, outFeatures } as Linear] })
const small = [block(64, 64), block(8192, 8192)]
const large = [block(64, 64), block(8192, 8193)]

test('small blocks have the rounding of the preset', () => {
  expect(roundingFor({}, { rounding: 'learned' }, small)).toEqual({ rounding: 'learned', notes: [] })
})

test('a large block is rounded to nearest, with a note that says what learning takes', () => {
  const { rounding, notes } = roundingFor({}, { rounding: 'learned' }, large)
  expect(rounding).toBe('nearest')
  expect(notes).toEqual([expect.stringContaining('takes about 6 GB of memory')])
})

test.each([{ rounding: 'learned' }, { preset: 'best' }] as const)('%o is done with large blocks too', given => {
  expect(roundingFor(given, { rounding: 'learned' }, large)).toEqual({ rounding: 'learned', notes: [] })
})

test('other roundings stay', () => {
  expect(roundingFor({}, { rounding: 'nearest' }, large)).toEqual({ rounding: 'nearest', notes: [] })
})
