/** @file Transposes and column slices against the plainest loops. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { int64Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { asNdarray, columns, dense, transpose2d } from '../../src/kernels/transpose.ts'

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

test('columns takes the columns asked for, in a copy', () => {
  const elements = counted(12)
  const part = columns(elements, 3, 4, 1, 3)
  expect([...part]).toEqual([1, 2, 5, 6, 9, 10])
  part[0] = 99
  expect(elements[1]).toBe(1)
  expect(columns(elements, 3, 4, 2, 2)).toHaveLength(0)
})

test('copies keep the element type', () => {
  expect(transpose2d(Uint16Array.of(1, 2, 3, 4), 2, 2)).toEqual(Uint16Array.of(1, 3, 2, 4))
})

test('asNdarray shares memory with the tensor', () => {
  const elements = counted(6)
  const view = asNdarray(tensorOf('float32', [2, 3], elements))
  expect(view.get(1, 2)).toBe(5)
  elements[5] = 7
  expect(view.get(1, 2)).toBe(7)
  expect([...dense(view.transpose(1, 0))]).toEqual([0, 3, 1, 4, 2, 7])
})

test('what is no matrix of numbers is a mistake of ours', () => {
  expect(() => asNdarray(int64Tensor([1], [1]))).toThrow('int64 tensors have no ndarray view')
  expect(() => dense(asNdarray(tensorOf('float32', [1, 1, 2], counted(2))))).toThrow('rank 3')
})
