/** @file Norms, with and without a residual sum, against the kernels of onnxruntime. */

import { describe, it } from 'vitest'
import { expectSame, float, type Fused, random } from './compare.ts'

const x = random([2, 5, 16], 1, 3)
const skip = random([2, 5, 16], 2)
const gain = random([16], 3)
const bias = random([16], 4)
const epsilon = float(0.01)

describe('norms', () => {
  it.each<[string, Fused]>([
    ['SimplifiedLayerNormalization', { kind: 'SimplifiedLayerNormalization', inputs: [x, gain] }],
    ['its epsilon', { kind: 'SimplifiedLayerNormalization', inputs: [x, gain], attributes: { epsilon, axis: -1 } }],
    ['RMSNormalization 23', { kind: 'RMSNormalization', inputs: [x, gain], attributes: { epsilon }, opset: 23 }],
    [
      'RMSNormalization, default epsilon',
      { kind: 'RMSNormalization', inputs: [random([2, 16], 5, 1e-3), gain], opset: 23 },
    ],
    [
      'RMSNormalization over two axes',
      { kind: 'RMSNormalization', inputs: [x, random([5, 16], 5)], attributes: { axis: 1 }, opset: 23 },
    ],
    ['LayerNormalization', { kind: 'LayerNormalization', inputs: [x, gain, bias], attributes: { epsilon } }],
    ['LayerNormalization without bias', { kind: 'LayerNormalization', inputs: [random([3, 16], 6, 1e-3), gain] }],
    [
      'LayerNormalization over two axes',
      { kind: 'LayerNormalization', inputs: [x, random([5, 16], 5), random([5, 16], 6)], attributes: { axis: -2 } },
    ],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  // The list of outputs may end early, and an exporter may want the sum alone or the norm alone.
  it.each<[string, Fused, string[]]>([
    [
      'SkipSimplifiedLayerNormalization',
      {
        kind: 'com.microsoft.SkipSimplifiedLayerNormalization',
        inputs: [x, skip, gain],
        outputs: ['y', '', '', 'sum'],
      },
      ['y', 'sum'],
    ],
    [
      'SkipSimplifiedLayerNormalization with bias and epsilon',
      {
        kind: 'com.microsoft.SkipSimplifiedLayerNormalization',
        inputs: [x, skip, gain, bias],
        attributes: { epsilon },
        outputs: ['y', '', '', 'sum'],
      },
      ['y', 'sum'],
    ],
    [
      'SkipSimplifiedLayerNormalization, norm alone, default epsilon 1e-12',
      {
        kind: 'com.microsoft.SkipSimplifiedLayerNormalization',
        inputs: [random([1, 2, 16], 7, 1e-4), random([1, 2, 16], 8, 1e-4), gain],
      },
      ['y'],
    ],
    [
      'SkipLayerNormalization',
      { kind: 'com.microsoft.SkipLayerNormalization', inputs: [x, skip, gain, bias], outputs: ['y', '', '', 'sum'] },
      ['y', 'sum'],
    ],
    [
      'SkipLayerNormalization without beta, with bias',
      {
        kind: 'com.microsoft.SkipLayerNormalization',
        inputs: [x, skip, gain, undefined, random([16], 9)],
        outputs: ['y', '', '', 'sum'],
      },
      ['y', 'sum'],
    ],
    [
      'SkipLayerNormalization with a skip for all of the batch, one output',
      { kind: 'com.microsoft.SkipLayerNormalization', inputs: [x, random([5, 16], 10), gain, bias, gain] },
      ['y'],
    ],
  ])('%s', async (_, fused, outputs) => {
    await expectSame(fused, outputs)
  })
})
