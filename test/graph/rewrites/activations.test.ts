/** @file Activations against the kernels of onnxruntime. */

import { describe, expect, it } from 'vitest'
import { type Fused, expectSame, float, random, rewriteGraph } from './compare.ts'

const x = random([2, 3, 32], 1, 6)
const bias = random([32], 2)

describe('activations', () => {
  it.each<[string, Fused]>([
    ['Gelu 20', { kind: 'Gelu', inputs: [x] }],
    ['Gelu 20 tanh', { kind: 'Gelu', inputs: [x], attributes: { approximate: 'tanh' } }],
    ['com.microsoft.Gelu', { kind: 'com.microsoft.Gelu', inputs: [x] }],
    ['BiasGelu', { kind: 'com.microsoft.BiasGelu', inputs: [x, bias] }],
    ['FastGelu', { kind: 'com.microsoft.FastGelu', inputs: [x] }],
    ['FastGelu with bias', { kind: 'com.microsoft.FastGelu', inputs: [x, bias] }],
    ['QuickGelu, default alpha', { kind: 'com.microsoft.QuickGelu', inputs: [x] }],
    ['QuickGelu as SiLU', { kind: 'com.microsoft.QuickGelu', inputs: [x], attributes: { alpha: float(1) } }],
    ['Swish 24', { kind: 'Swish', inputs: [x], opset: 24 }],
    ['Swish 24 with alpha', { kind: 'Swish', inputs: [x], attributes: { alpha: float(0.5) }, opset: 24 }],
    ['HardSwish', { kind: 'HardSwish', inputs: [x] }],
  ])('%s', async (_, fused) => {
    // Tight enough to tell 0.044715 from 0.0447.
    await expectSame(fused, ['y'], 1e-6)
  })

  it('writes SiLU in two passes', () => {
    const { graph } = rewriteGraph({
      kind: 'com.microsoft.QuickGelu',
      inputs: [x],
      attributes: { alpha: float(1) },
    })
    expect(graph.nodes.map(node => node.kind)).toEqual(['Sigmoid', 'Mul'])
  })

  it('refuses an approximation it does not know', () => {
    expect(() => rewriteGraph({ kind: 'Gelu', inputs: [x], attributes: { approximate: 'cubic' } })).toThrow(
      /Gelu "fused": approximate = "cubic"/,
    )
  })
})
