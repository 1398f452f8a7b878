/** @file Limits that the weights of one fused node must keep together. */

import { describe, expect, test } from 'vitest'
import { Node, Value } from '../../../src/graph/ir.ts'
import { floatTensor } from '../../../src/graph/tensor.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { planFused } from '../../../src/quant/plan/fused-experts.ts'
import type { Linear } from '../../../src/quant/find/linears.ts'

const node = new Node('MoE', [], [], new Map(), 'com.microsoft', 'layers.0/moe')
const linear = (inFeatures: number, origin = node): Linear => ({
  ...{ name: 'expert', node: origin, origin, transposed: true, inFeatures, outFeatures: 8 },
  weight: new Value('w', 'float32', [8, inFeatures], floatTensor([8, 1], new Array<number>(8).fill(0))),
})
const how = (bits: number, group: number, symmetric = false): WeightQuantizer => ({
  ...{ bits, group, symmetric, scaleDtype: 'float32' },
})

/** K, bits, group and symmetry of each weight -> block_size, or the reason why there is none. */
function planned(...weights: (readonly [number, WeightQuantizer | undefined])[]): number | string {
  const members = weights.map(([K, quantizer]) => [linear(K), quantizer] as const)
  const quantizers = new Map(members.flatMap(([each, quantizer]) => (quantizer ? [[each, quantizer] as const] : [])))
  const linears = members.map(([each]) => each)
  const { blockSizes, float, notes } = planFused(linears, quantizers)
  const sizes = new Set(blockSizes.values())
  if (sizes.size === 0) {
    expect(float).toEqual(new Set(linears))
    return notes[0]!
  }
  expect(blockSizes.size).toBe(linears.length)
  return [...sizes][0]!
}

describe('the block_size of a QMoE node', () => {
  test.each<[string, number, Parameters<typeof planned>]>([
    [
      'the group, where it divides all',
      32,
      [
        [64, how(4, 32)],
        [128, how(4, 32)],
      ],
    ],
    [
      'gpt-oss: 2880 = 45 * 64, two zero points a byte',
      32,
      [
        [2880, how(4, 128)],
        [2880, how(4, 128)],
      ],
    ],
    [
      'the same without zero points',
      64,
      [
        [2880, how(4, 128, true)],
        [2880, how(4, 128, true)],
      ],
    ],
    [
      'one scale per channel',
      128,
      [
        [256, how(4, 256)],
        [512, how(4, 512)],
      ],
    ],
    [
      '8 bits: more than one block',
      32,
      [
        [64, how(8, 64)],
        [64, how(8, 64)],
      ],
    ],
    [
      '2 bits: the smallest, whatever would fit',
      16,
      [
        [64, how(2, 64)],
        [128, how(2, 128)],
      ],
    ],
  ])('%s: %d', (_, size, weights) => {
    expect(planned(...weights)).toBe(size)
  })

  test.each<[string, Parameters<typeof planned>]>([
    [
      'some of its weights are to stay float',
      [
        [64, how(4, 32)],
        [64, undefined],
      ],
    ],
    [
      'its weights are to have different schemes',
      [
        [64, how(4, 32)],
        [64, how(8, 32)],
      ],
    ],
    [
      'its weights are to have different schemes',
      [
        [64, how(4, 32)],
        [64, how(4, 32, true)],
      ],
    ],
    [
      'no block size fits its weights',
      [
        [40, how(4, 32)],
        [64, how(4, 32)],
      ],
    ],
  ])('none: %s', (reason, weights) => {
    expect(planned(...weights)).toBe(
      `layers.0/moe: experts stay float, because a QMoE node cannot hold them: ${reason}`,
    )
  })

  test('weights of other nodes are nobody’s business here', () => {
    const other = linear(64, new Node('MatMul', [], [], new Map(), '', 'q_proj'))
    expect(planFused([other], new Map([[other, how(4, 32)]]))).toEqual({
      blockSizes: new Map(),
      float: new Set(),
      notes: [],
    })
  })
})
