/** @file The assembler: constants of every length, loops, and selection, as a WebAssembly engine understands them. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { assemble, FunctionWriter, get, i32, integer, loop, set, smaller } from '../../../src/kernels/round/wasm.ts'

/** Runs a function of one expression over i32 parameters. */
function evaluate(code: (...parameters: (readonly number[])[]) => readonly number[], ...values: number[]): number {
  const f = new FunctionWriter(
    'f',
    values.map(() => 'i32' as const),
    'i32',
  )
  f.add(code(...values.map((_, i) => get(i))))
  return assemble([f])().functions['f']!(...values)
}

test('constants are what they were, whatever their length', () => {
  const edges = [0, 1, 63, 64, 127, 128, 8191, 8192, 2 ** 20, 2 ** 31 - 1].flatMap(value => [value, ~value])
  for (const value of edges) expect(evaluate(() => integer(value))).toBe(value)
  fc.assert(fc.property(fc.integer(), value => evaluate(() => integer(value)) === value))
})

test('smaller compares as unsigned', () => {
  expect(evaluate(smaller, 3, 7)).toBe(3)
  expect(evaluate(smaller, 7, 3)).toBe(3)
  expect(evaluate(smaller, -1, 5)).toBe(5)
})

test.each([1, 2, 5, 300])('a loop to %i takes every step below it', count => {
  const f = new FunctionWriter('sum', ['i32'], 'i32')
  const [i, sum] = [f.local('i32'), f.local('i32')]
  f.add(loop(i, integer(0), get(0), integer(2), [set(sum, i32.add(get(sum), get(i)))]), get(sum))
  const expected = Array.from({ length: count }, (_, at) => (at % 2 === 0 ? at : 0)).reduce((a, b) => a + b, 0)
  expect(assemble([f])().functions['sum']!(count)).toBe(expected)
})

test('instances have memories of their own', () => {
  const f = new FunctionWriter('keep', ['i32', 'i32'])
  f.add(i32.store(get(0), get(1)))
  const instantiate = assemble([f])
  const [a, b] = [instantiate(), instantiate()]
  for (const { memory } of [a, b]) memory.grow(1)
  a.functions['keep']!(8, 5)
  expect([a, b].map(({ memory }) => new Int32Array(memory.buffer)[2])).toEqual([5, 0])
})
