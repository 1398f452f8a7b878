/** @file Cost of computing constants: values count as long as a node needs them, products by their multiplications. */

import { expect, test } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { costOf } from '../../../src/graph/passes/fold-cost.ts'
import type { Value } from '../../../src/graph/ir.ts'
import { floatTensor, tensorOf } from '../../../src/graph/tensor.ts'

const KB = 1024
const PER_RUN = 2 ** 18

/** A graph of constants written by `write`; `big` has 256 floats, a kilobyte. */
function cost(write: (g: Builder, big: Value) => Value[]) {
  const g = new Builder()
  const big = g.initializer('big', tensorOf('float32', [16, 16], new Float32Array(256)))
  g.graph.outputs = write(g, big)
  return costOf(g.graph)
}

test('a chain needs two of its values at one time, and is worked through link by link', () => {
  const { peakBytes, keptBytes, work } = cost((g, big) => [g.neg(g.neg(g.neg(g.neg(big))))])
  expect([peakBytes, keptBytes, work]).toEqual([2 * KB, KB, 4 * KB + PER_RUN])
})

test('what is read later stays', () => {
  const { peakBytes } = cost((g, big) => {
    const parts = Array.from({ length: 5 }, () => g.neg(big))
    return [parts.reduce((sum, part) => g.add(sum, part))]
  })
  expect(peakBytes).toBe(6 * KB)
})

test('outputs stay, what nobody reads does not', () => {
  const { peakBytes, keptBytes } = cost((g, big) => {
    g.neg(big)
    g.neg(big)
    return [g.neg(big), g.neg(big)]
  })
  expect([peakBytes, keptBytes]).toEqual([2 * KB, 2 * KB])
})

test('a product counts its multiplications, transposed or not', () => {
  expect(cost((g, big) => [g.matMul(big, big)]).work).toBe(17 * KB + PER_RUN)
  const fused = (g: Builder) => {
    const a = g.initializer('a', floatTensor([8, 2], Array(16).fill(1)))
    return [g.op('FusedMatMul', [a, a], { transA: 1 }, { domain: 'com.microsoft' })]
  }
  expect(cost(fused).work).toBe(4 * 4 * (1 + 8) + PER_RUN)
})

test('the largest value is named', () => {
  const { largest } = cost((g, big) => [g.reduceSum(g.op('Expand', [big, g.ints([9, 16, 16])]), [0, 1, 2])])
  expect(largest.shape).toEqual([9, 16, 16])
})
