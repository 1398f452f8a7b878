/** @file Runs the gradients of a graph: for tests that know the numbers. */

import { expect } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import type { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { elementCount, floatTensor, readNumbers, type Tensor } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'

/** The gradient of each value of `wrt`, of the sum of y's elements. */
export async function gradientsOf(
  g: Builder,
  y: Value,
  wrt: readonly Value[],
  feeds: Record<string, Tensor>,
): Promise<number[][]> {
  const shape = staticShape(y)
  const ones = g.initializer('ones', floatTensor(shape, Array(elementCount(shape)).fill(1)))
  const result = gradients(g, new Map([[y, ones]]), wrt)
  wrt.forEach((value, i) => g.output(g.op('Identity', [result.get(value)!]), `dx${i}`))
  const outputs = await runGraph(g.graph, feeds, { threads: 1 })
  return wrt.map((value, i) => {
    expect(outputs[`dx${i}`]!.dims).toEqual([...staticShape(value)])
    return readNumbers(outputs[`dx${i}`]!)
  })
}
