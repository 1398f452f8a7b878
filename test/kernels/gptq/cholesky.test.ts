/** @file Cholesky factor by panels, against float64. */

import { afterAll, expect, test } from 'vitest'
import { cholesky, PANEL } from '../../../src/kernels/gptq/cholesky.ts'
import { gptqSession } from '../../../src/kernels/gptq/gptq.ts'
import { Programs } from '../../../src/kernels/programs.ts'
import { hessianOf } from './reference.ts'

const PROGRAMS = new Programs(gptqSession({ threads: 1 }))

afterAll(() => PROGRAMS.release())

/** Panels of a square matrix, as `cholesky` asks for them. */
const panelOf = (matrix: Float32Array, size: number) => (p: number) => {
  const rows = size - p * PANEL
  return Float32Array.from({ length: rows * PANEL }, (_, i) => {
    const [row, column] = [p * PANEL + Math.floor(i / PANEL), p * PANEL + (i % PANEL)]
    return matrix[row * size + column]!
  })
}

test.each([1, 3])('%i panels: L L^T is the matrix, and L equals the factor in float64', async panels => {
  const size = panels * PANEL
  const matrix = hessianOf(size, 5, 0.01)
  const factor = (await cholesky(panels, panelOf(matrix, size), PROGRAMS))!
  const at = (row: number, column: number) => {
    const p = Math.floor(column / PANEL)
    return row < p * PANEL ? 0 : factor[p]![(row - p * PANEL) * PANEL + (column % PANEL)]!
  }
  // Textbook factor in float64, row by row.
  const exact = new Float64Array(size * size)
  for (let i = 0; i < size; i++)
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * size + j]!
      for (let k = 0; k < j; k++) sum -= exact[i * size + k]! * exact[j * size + k]!
      exact[i * size + j] = i === j ? Math.sqrt(sum) : sum / exact[j * size + j]!
    }
  let worst = 0
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++)
      worst = Math.max(worst, Math.abs(at(i, j) - exact[i * size + j]!) / exact[i * size + i]!)
  expect(worst).toBeLessThan(1e-4)
  expect(worst).toBeGreaterThan(0)
})

test('a matrix that is not positive definite has no factor', async () => {
  const matrix = hessianOf(PANEL, 5, 0.01)
  matrix[7 * PANEL + 7] = -1
  expect(await cholesky(1, panelOf(matrix, PANEL), PROGRAMS)).toBeUndefined()
})
