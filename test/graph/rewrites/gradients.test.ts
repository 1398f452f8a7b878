/** @file Gradients through rewritten ops against difference quotients: what the rules write, the autodiff differentiates. */

import { describe, expect, it } from 'vitest'
import { gradients } from '../../../src/autodiff/backward.ts'
import { elementCount, floatTensor, readNumbers, type Tensor } from '../../../src/graph/tensor.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { type Fused, float, random, rewriteGraph } from './compare.ts'

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0)

/** The gradient of sum(dy * y) with respect to input 0, along a random direction, and as a difference quotient in it. */
async function slopes(fused: Fused): Promise<{ analytic: number; numeric: number }> {
  const x = fused.inputs[0]!
  const g = rewriteGraph(fused)
  const [xValue, y] = [g.graph.inputs[0]!, g.graph.outputs[0]!]
  const dims = y.shape as number[]
  const dy = random(dims, 101)
  const dx = gradients(g, new Map([[y, g.initializer('dy', dy)]]), [xValue]).get(xValue)!
  g.output(dx)
  const direction = random(x.dims, 102)
  const feeds = Object.fromEntries(fused.inputs.flatMap((tensor, i) => (tensor ? [[`x${i}`, tensor]] : [])))
  const at = async (step: number) => {
    const moved = readNumbers(x).map((number, i) => number + step * readNumbers(direction)[i]!)
    return runGraph(g.graph, { ...feeds, x0: floatTensor(x.dims, moved) })
  }
  const step = 2e-3
  const [ahead, here, behind] = [await at(step), await at(0), await at(-step)]
  const loss = (results: Record<string, Tensor>) => dot(readNumbers(results['y']!), readNumbers(dy))
  expect(elementCount(here[dx.name]!.dims)).toBe(elementCount(x.dims))
  return {
    analytic: dot(readNumbers(here[dx.name]!), readNumbers(direction)),
    numeric: (loss(ahead) - loss(behind)) / (2 * step),
  }
}

// 5 tokens; 4 query heads and 2 key heads of 8 channels, all of them in input 0.
const packed = random([2, 5, 64], 1)
const none = undefined
const attention: Fused = {
  kind: 'com.microsoft.GroupQueryAttention',
  inputs: [
    packed,
    none,
    none,
    none,
    none,
    none,
    none,
    random([6, 4], 2),
    random([6, 4], 3),
    none,
    none,
    random([4], 4),
  ],
  attributes: { num_heads: 4, kv_num_heads: 2, do_rotary: 1, local_window_size: 3, softcap: float(2) },
}

describe('gradients through rewritten ops', () => {
  it.each<[string, Fused]>([
    [
      'SimplifiedLayerNormalization',
      { kind: 'SimplifiedLayerNormalization', inputs: [random([3, 16], 1), random([16], 2)] },
    ],
    ['LayerNormalization', { kind: 'LayerNormalization', inputs: [random([3, 16], 1), random([16], 2)] }],
    ['Gelu', { kind: 'Gelu', inputs: [random([3, 16], 1, 3)] }],
    ['FastGelu', { kind: 'com.microsoft.FastGelu', inputs: [random([3, 16], 1, 3)] }],
    ['GroupQueryAttention', attention],
    [
      'GroupQueryAttention, interleaved',
      { ...attention, attributes: { ...attention.attributes, rotary_interleaved: 1 } },
    ],
    [
      'GroupQueryAttention, half of a head turned',
      { ...attention, inputs: attention.inputs.with(7, random([6, 2], 2)).with(8, random([6, 2], 3)) },
    ],
    [
      'Attention of a query alone',
      { kind: 'Attention', inputs: [random([1, 4, 5, 8], 1), random([1, 2, 5, 8], 2), random([1, 2, 5, 8], 3)] },
    ],
  ])('%s', async (_, fused) => {
    const { analytic, numeric } = await slopes(fused)
    expect(Math.abs(analytic)).toBeGreaterThan(0.01)
    expect(Math.abs(analytic - numeric)).toBeLessThan(2e-3 * Math.max(1, Math.abs(analytic)))
  })
})
