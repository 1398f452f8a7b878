/** @file Transposes against the plainest loops. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { transpose2d } from '../../src/kernels/transpose.ts'

const counted = (length: number) => Float32Array.from({ length }, (_, i) => i)
const size = fc.integer({ min: 1, max: 70 })

test('transpose2d swaps rows and columns, also across tile borders', () => {
  fc.assert(
    fc.property(size, size, (rows, cols) => {
      const elements = counted(rows * cols)
      const expected = elements.map((_, i) => elements[(i % rows) * cols + Math.floor(i / rows)]!)
      expect(transpose2d(elements, rows, cols)).toEqual(expected)
      expect(transpose2d(transpose2d(elements, rows, cols), cols, rows)).toEqual(elements)
    }),
    { numRuns: 50 },
  )
})

test('copies keep the element type', () => {
  expect(transpose2d(Uint16Array.of(1, 2, 3, 4), 2, 2)).toEqual(Uint16Array.of(1, 3, 2, 4))
})
