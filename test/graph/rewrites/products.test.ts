/** @file Fused products against the kernels of onnxruntime, or by hand where it has none. */

import { describe, expect, it } from 'vitest'
import { readNumbers } from '../../../src/graph/tensor.ts'
import { type Fused, expectSame, float, random, rewriteGraph, runRewritten } from './compare.ts'

describe('products', () => {
  it.each<[string, Fused]>([
    ['FusedMatMul', { kind: 'com.microsoft.FusedMatMul', inputs: [random([2, 3, 4], 1), random([4, 5], 2)] }],
    [
      'FusedMatMul with alpha and both factors transposed',
      {
        kind: 'com.microsoft.FusedMatMul',
        inputs: [random([2, 4, 3], 1), random([2, 5, 4], 2)],
        attributes: { transA: 1, transB: 1, alpha: float(0.25) },
      },
    ],
    [
      'FusedMatMul that transposes a vector, which is nothing',
      { kind: 'com.microsoft.FusedMatMul', inputs: [random([4], 1), random([4, 5], 2)], attributes: { transA: 1 } },
    ],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  it('refuses FusedMatMul that transposes the batch', () => {
    const fused: Fused = {
      kind: 'com.microsoft.FusedMatMul',
      inputs: [random([2, 3, 4], 1), random([2, 4, 5], 2)],
      attributes: { transBatchA: 1 },
    }
    expect(() => rewriteGraph(fused)).toThrow(/FusedMatMul "fused": transBatchA/)
  })

  // There is no CPU kernel to compare with.
  it('BiasAdd', async () => {
    const [x, bias, skip] = [random([2, 3, 4], 1), random([4], 2), random([2, 3, 4], 3)]
    const { y } = await runRewritten({ kind: 'com.microsoft.BiasAdd', inputs: [x, bias, skip] })
    const [b, s] = [readNumbers(bias), readNumbers(skip)]
    const expected = readNumbers(x).map((number, i) => number + b[i % 4]! + s[i]!)
    readNumbers(y!).forEach((number, i) => expect(number).toBeCloseTo(expected[i]!, 6))
  })
})
