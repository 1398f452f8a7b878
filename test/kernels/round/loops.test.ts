/** @file The kernels that no comparison of whole weights reaches everywhere: every 16-bit number, and transposing. */

import { expect, test } from 'vitest'
import { fromBfloat16Bits, fromFloat16Bits } from '../../../src/kernels/float16.ts'
import { roundKernels } from '../../../src/kernels/round/loops.ts'
import { transpose2d } from '../../../src/kernels/transpose.ts'
import { noise } from '../weights.ts'

const PATTERNS = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i)
const isFinite16 = (pattern: number) => (pattern & 0x7c00) !== 0x7c00

function widened(kernel: 'float16' | 'bfloat16'): Float32Array {
  const { memory, functions } = roundKernels()
  memory.grow(7)
  new Uint16Array(memory.buffer).set(PATTERNS)
  functions[kernel]!(0, 2 * PATTERNS.length, PATTERNS.length)
  return new Float32Array(memory.buffer, 2 * PATTERNS.length, PATTERNS.length)
}

test('every finite float16 is widened exactly, and everything else beyond its range', () => {
  const [found, expected] = [widened('float16'), fromFloat16Bits(PATTERNS)]
  for (const pattern of PATTERNS) {
    if (!isFinite16(pattern)) expect(Math.abs(found[pattern]!)).toBeGreaterThan(65504)
    else if (!Object.is(found[pattern], expected[pattern])) expect(found[pattern], `${pattern}`).toBe(expected[pattern])
  }
})

test('every bfloat16 is widened bit by bit', () => {
  const bytes = (floats: Float32Array) => Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength)
  expect(bytes(widened('bfloat16')).equals(bytes(fromBfloat16Bits(PATTERNS)))).toBe(true)
})

test('rows are transposed into columns of something wider', () => {
  const [rows, cols, stride] = [3, 5, 7]
  const { memory, functions } = roundKernels()
  memory.grow(1)
  const floats = new Float32Array(memory.buffer)
  const values = noise(rows * cols, 1)
  floats.set(values)
  functions['transpose']!(0, 4 * 100, rows, cols, 4 * stride)
  const found = Array.from({ length: cols }, (_, col) => [
    ...floats.slice(100 + col * stride, 100 + col * stride + rows),
  ])
  expect(found.flat()).toEqual([...transpose2d(values, rows, cols)])
})
