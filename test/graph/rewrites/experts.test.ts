/** @file MoE nodes against onnxruntime's own kernel. */

import { describe, expect, test } from 'vitest'
import { floatTensor, readNumbers } from '../../../src/graph/tensor.ts'
import { type Fused, expectSame, float, random, rewriteGraph } from './compare.ts'

const [H, I, E, T] = [32, 48, 4, 10]

/** Attributes and sizes -> a node with weights as constants. */
const moe = (
  attributes: Fused['attributes'],
  { rows = I, biases = true, shape = [T, H] }: { rows?: number; biases?: boolean; shape?: readonly number[] } = {},
): Fused => ({
  kind: 'com.microsoft.MoE',
  attributes,
  inputs: [
    random(shape, 1),
    random([T, E], 2, 3),
    random([E, rows, H], 3, 0.5),
    biases ? random([E, rows], 4) : undefined,
    random([E, H, I], 5, 0.5),
    biases ? random([E, H], 6) : undefined,
  ],
  constants: [2, 3, 4, 5],
})

describe('MoE', () => {
  const swiglu = {
    activation_type: 'swiglu',
    swiglu_fusion: 1,
    activation_alpha: float(1.702),
    activation_beta: float(1),
  }
  test.each<[string, Fused]>([
    ['relu, the best of four', moe({ activation_type: 'relu' })],
    ['silu, weights of all', moe({ activation_type: 'silu', k: 2 })],
    ['silu, weights of those chosen', moe({ activation_type: 'silu', k: 2, normalize_routing_weights: 1 })],
    ['identity without biases', moe({ activation_type: 'identity', k: 3 }, { biases: false })],
    ['swiglu as gpt-oss', moe({ ...swiglu, k: 2, normalize_routing_weights: 1 }, { rows: 2 * I })],
    ['swiglu with a limit', moe({ ...swiglu, k: 2, swiglu_limit: float(0.7) }, { rows: 2 * I })],
    ['swiglu of its defaults', moe({ activation_type: 'swiglu', swiglu_fusion: 1, k: 2 }, { rows: 2 * I })],
    ['three dimensions', moe({ activation_type: 'silu', k: 4 }, { shape: [2, 5, H] })],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  test.each<[string, Fused, RegExp]>([
    ['gelu', moe({ activation_type: 'gelu' }), /activation_type = "gelu"/],
    [
      'swiglu in two halves',
      moe({ activation_type: 'swiglu', swiglu_fusion: 2 }, { rows: 2 * I }),
      /swiglu_fusion = 2/,
    ],
    ['the sparse mixer', moe({ use_sparse_mixer: 1, k: 2 }), /use_sparse_mixer/],
    ['weights that are computed', { ...moe({}), constants: [3, 4, 5] }, /"x2", which is not a stored weight/],
  ])('%s is refused', (_, fused, message) => {
    expect(() => rewriteGraph(fused)).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringMatching(message) as string }),
    )
  })

  test('weights stay where they are stored, one view per expert', () => {
    const { graph } = rewriteGraph(moe({ activation_type: 'relu' }))
    const slices = graph.initializers.filter(({ tensor }) => tensor!.dims.join() === `${I},${H}`)
    expect(slices.map(({ name }) => name)).toEqual(['0.x2', '1.x2', '2.x2', '3.x2'])
    const stored = moe({}).inputs[2]!
    const third = readNumbers(stored).slice(2 * I * H, 3 * I * H)
    expect(slices[2]!.tensor).toEqual(floatTensor([I, H], third))
  })
})
