/** @file Gradients where differences in float32 cannot tell: at kinks, in the fine print of slopes, and where many elements meet. */

import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { floatTensor, int64Tensor, readNumbers } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { gradientsOf } from './gradients-of.ts'

describe('kinks, as torch 2.13 resolves them', () => {
  // Expected values: torch.amax, torch.clamp, torch.maximum, torch.relu, torch.abs, all with backward().
  const cases: [string, number[][], (g: Builder, x: Value) => Value, number[]][] = [
    [
      'ReduceMax shares among ties',
      [
        [1, 3, 3, 2, 2, 2],
        [2, 3],
      ],
      (g, x) => g.scale(g.op('ReduceMax', [x, g.ints([1])]), 6),
      [0, 3, 3, 2, 2, 2],
    ],
    [
      'ReduceMin shares among ties',
      [
        [4, 3, 3, 2, 2, 2],
        [2, 3],
      ],
      (g, x) => g.scale(g.op('ReduceMin', [x, g.ints([1])]), 6),
      [0, 3, 3, 2, 2, 2],
    ],
    [
      'Clip lets its bounds through',
      [[-2, -1, 0, 1, 2], [5]],
      (g, x) => g.op('Clip', [x, g.scalar(-1), g.scalar(1)]),
      [0, 1, 1, 1, 0],
    ],
    ['Max shares between equals', [[-2, 0, 2], [3]], (g, x) => g.op('Max', [x, g.scalar(0)]), [0, 0.5, 1]],
    ['Relu is flat at 0', [[-2, 0, 2], [3]], (g, x) => g.op('Relu', [x]), [0, 0, 1]],
    ['Abs is flat at 0', [[-2, 0, 2], [3]], (g, x) => g.op('Abs', [x]), [-1, 0, 1]],
    [
      '0 to a learned power',
      [[0, 1, 4], [3]],
      (g, x) => g.op('Pow', [g.initializer('base', floatTensor([3], [0, 1, Math.E])), x]),
      [0, 0, Math.exp(4)],
    ],
  ]
  test.each(cases)('%s', async (_, [values, shape], build, expected) => {
    const g = new Builder()
    const x = g.input('x', 'float32', shape!)
    const [dx] = await gradientsOf(g, build(g, x), [x], { x: floatTensor(shape!, values!) })
    expected.forEach((value, i) => expect(dx![i]).toBeCloseTo(value, 4))
  })
})

/** erf by its power series, good to 1e-12 on [-3, 3]. */
function erf(x: number): number {
  let term = x
  let sum = x
  for (let n = 1; n < 60; n++) {
    term *= -(x * x) / n
    sum += term / (2 * n + 1)
  }
  return (2 / Math.sqrt(Math.PI)) * sum
}

describe('slopes of functions without a float64 kernel', () => {
  const cases: [string, (g: Builder, x: Value) => Value, (x: number) => number][] = [
    ['Erf', (g, x) => g.op('Erf', [x]), erf],
    ['Softplus', (g, x) => g.op('Softplus', [x]), x => Math.log1p(Math.exp(x))],
  ]
  const points = Array.from({ length: 25 }, (_, i) => (i - 12) / 4)

  test.each(cases)('%s', async (_, build, reference) => {
    const g = new Builder()
    const x = g.input('x', 'float32', [25])
    const [dx] = await gradientsOf(g, build(g, x), [x], { x: floatTensor([25], points) })
    points.forEach((point, i) => {
      const slope = (reference(point + 1e-5) - reference(point - 1e-5)) / 2e-5
      expect(Math.abs(dx![i]! - slope)).toBeLessThan(1e-6)
    })
  })
})

test('many picks of one row lose nothing, whatever the threads', async () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [8, 4])
  const indices = g.input('indices', 'int64', [20000])
  const y = g.op('Gather', [x, indices])
  const dy = g.op('Expand', [g.scalar(1), g.ints([20000, 4])])
  g.output(g.op('Identity', [gradients(g, new Map([[y, dy]]), [x]).get(x)!]), 'dx')
  const feeds = {
    x: floatTensor([8, 4], Array(32).fill(1)),
    indices: int64Tensor(
      [20000],
      Array.from({ length: 20000 }, (_, i) => i % 8),
    ),
  }
  expect(readNumbers((await runGraph(g.graph, feeds)).dx!)).toEqual(Array(32).fill(2500))
})
