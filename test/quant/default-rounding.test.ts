/** @file Rounding is learned by default only where blocks are small. */

import { expect, test } from 'vitest'
import { roundingFor } from '../../src/quant/default-rounding.ts'
import type { Linear } from '../../src/quant/find/linears.ts'

const block = (inFeatures: number, outFeatures: number) => ({ linears: [{ inFeatures, outFeatures } as Linear] })
const small = [block(64, 64), block(8192, 8192)]
const large = [block(64, 64), block(8192, 8193)]
const maxRounded = 2 ** 26

test('small blocks have the rounding of the preset', () => {
  expect(roundingFor({ rounding: 'learned', maxRounded }, small)).toEqual({ rounding: 'learned', notes: [] })
})

test('a large block is rounded to nearest, with a note that says what learning takes', () => {
  const { rounding, notes } = roundingFor({ rounding: 'learned', maxRounded }, large)
  expect(rounding).toBe('nearest')
  expect(notes).toEqual([expect.stringContaining('takes about 6 GB of memory')])
})

test('without a limit large blocks are done too', () => {
  expect(roundingFor({ rounding: 'learned' }, large)).toEqual({ rounding: 'learned', notes: [] })
})

test('rounding to nearest stays, without a note', () => {
  expect(roundingFor({ rounding: 'nearest', maxRounded }, large)).toEqual({ rounding: 'nearest', notes: [] })
})
