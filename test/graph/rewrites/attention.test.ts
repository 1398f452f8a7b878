/** @file Attention and MultiHeadAttention against the kernels of onnxruntime. */

import { describe, expect, it } from 'vitest'
import { int64Tensor, type Tensor } from '../../../src/graph/tensor.ts'
import { bool, type Fused, expectSame, float, int32, random, randomNumbers, rewriteGraph } from './compare.ts'

// 2 sequences of 6 tokens, 4 query heads and 2 key heads of 8 channels.
const query = random([2, 6, 32], 1, 3)
const [key, value] = [random([2, 6, 16], 2, 3), random([2, 6, 16], 3)]
const [query4, key4, value4] = [random([2, 4, 6, 8], 4, 3), random([2, 2, 6, 8], 5, 3), random([2, 2, 6, 8], 6)]
const heads = { q_num_heads: 4, kv_num_heads: 2 }

/** True on the diagonal, so that no row is closed, and at random elsewhere. */
const boolMask = (dims: readonly number[]): Tensor =>
  bool(
    dims,
    randomNumbers(
      dims.reduce((a, b) => a * b, 1),
      7,
    ).map((number, i) => i % 6 === Math.floor(i / 6) % 6 || number > 0),
  )

describe('Attention 23 and 24', () => {
  const node = (inputs: Fused['inputs'], attributes: Fused['attributes'] = {}, opset = 23): Fused => ({
    kind: 'Attention',
    inputs,
    attributes,
    opset,
  })

  it.each<[string, Fused]>([
    ['4-D', node([query4, key4, value4])],
    ['4-D, no repetition', node([query4, random([2, 4, 6, 8], 8), random([2, 4, 6, 8], 9)])],
    ['4-D, wider values', node([query4, key4, random([2, 2, 6, 12], 8)])],
    ['3-D', node([query, key, value], heads)],
    ['scale', node([query, key, value], { ...heads, scale: float(0.6) })],
    ['is_causal', node([query, key, value], { ...heads, is_causal: 1 })],
    ['is_causal 4-D, opset 24', node([query4, key4, value4], { is_causal: 1 }, 24)],
    ['float mask [S, T]', node([query4, key4, value4, random([6, 6], 8, 4)])],
    ['float mask [B, N, S, T]', node([query4, key4, value4, random([2, 4, 6, 6], 8, 4)])],
    ['float mask [B, 1, S, T] and is_causal', node([query4, key4, value4, random([2, 1, 6, 6], 8)], { is_causal: 1 })],
    ['bool mask [S, T]', node([query4, key4, value4, boolMask([6, 6])])],
    ['bool mask [B, 1, S, T], 3-D', node([query, key, value, boolMask([2, 1, 6, 6])], heads, 24)],
    ['softcap', node([query4, key4, value4], { softcap: float(2) })],
    ['softcap before the mask', node([query4, key4, value4, random([6, 6], 8, 4)], { softcap: float(2) }, 24)],
    ['fewer queries than keys', node([random([2, 4, 3, 8], 8), key4, value4])],
    [
      'an empty past',
      {
        ...node([query4, key4, value4, undefined, random([2, 2, 0, 8], 8), random([2, 2, 0, 8], 9)]),
        outputs: ['y', 'k', 'v'],
      },
    ],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  it('takes nonpad_kv_seqlen that says nothing', async () => {
    await expectSame({
      ...node([query4, key4, value4, undefined, undefined, undefined, int64Tensor([2], [6, 6])], {}, 24),
      constants: [6],
    })
  })

  it('refuses what has no formula', () => {
    const refuse = (fused: Fused, message: RegExp) => expect(() => rewriteGraph(fused)).toThrow(message)
    refuse(node([query, key, value]), /3-D input without q_num_heads/)
    refuse(node([random([2, 4, 3, 8], 8), key4, value4], { is_causal: 1 }), /causal mask over 3 queries and 6 keys/)
    refuse(
      node([query4, key4, value4, undefined, random([2, 2, 1, 8], 8), random([2, 2, 1, 8], 9)]),
      /Attention "fused": a past of shape \[2, 2, 1, 8\]/,
    )
    refuse(node([query4, key4, value4, random([6, 4], 8)]), /a mask "x3" for 4 of 6 keys/)
    refuse(node([random([2, 3, 6, 8], 8), key4, value4]), /3 query heads over 2 key heads/)
  })

  it('copies neither keys nor values for the heads that share them', () => {
    const { graph } = rewriteGraph(node([query4, key4, value4]))
    expect(graph.nodes.map(({ kind }) => kind)).toEqual([
      'Mul',
      'Reshape',
      'Transpose',
      'MatMul',
      'Reshape',
      'Softmax',
      'Reshape',
      'MatMul',
      'Reshape',
    ])
  })
})

describe('MultiHeadAttention', () => {
  const [k, v] = [random([2, 6, 32], 8, 3), random([2, 6, 32], 9)]
  const node = (inputs: Fused['inputs'], attributes: Fused['attributes'] = {}): Fused => ({
    kind: 'com.microsoft.MultiHeadAttention',
    inputs,
    attributes: { num_heads: 4, ...attributes },
    constants: [4],
  })

  it.each<[string, Fused]>([
    ['plain', node([query, k, v])],
    ['wider values', node([query, k, random([2, 6, 48], 10)])],
    ['scale', node([query, k, v], { scale: float(0.6) })],
    ['bias', node([query, k, v, random([96], 10)])],
    ['attention_bias [1, N, S, T]', node([query, k, v, undefined, undefined, random([1, 4, 6, 6], 10, 4)])],
    ['attention_bias [B, 1, S, T]', node([query, k, v, undefined, undefined, random([2, 1, 6, 6], 10, 4)])],
    ['unidirectional', node([query, k, v], { unidirectional: 1 })],
    ['padding of ones', node([query, k, v, undefined, int32([2, 6], Array<number>(12).fill(1))])],
    ['padding', node([query, k, v, undefined, int32([2, 6], [0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1])])],
    [
      'all together',
      node([query, k, v, random([96], 10), int32([2, 6], Array<number>(12).fill(1)), random([2, 4, 6, 6], 11, 4)], {
        unidirectional: 1,
        scale: float(0.6),
      }),
    ],
    [
      'an empty past',
      {
        ...node([query, k, v, undefined, undefined, undefined, random([2, 4, 0, 8], 1), random([2, 4, 0, 8], 1)]),
        outputs: ['y', 'present_key', 'present_value'],
      },
    ],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  it('adds nothing for a padding of ones', () => {
    const { graph } = rewriteGraph(node([query, k, v, undefined, int32([2, 6], Array<number>(12).fill(1))]))
    expect(graph.nodes.map(({ kind }) => kind)).not.toContain('Add')
  })

  it('refuses packed inputs, lengths as a mask, and a past', () => {
    const refuse = (fused: Fused, message: RegExp) => expect(() => rewriteGraph(fused)).toThrow(message)
    refuse(node([random([2, 6, 4, 3, 8], 1)]), /MultiHeadAttention "fused": a node without its input 1/)
    refuse(node([query, random([2, 4, 6, 8], 1), random([2, 4, 6, 8], 1)]), /of rank 4/)
    refuse(node([query, k, v, undefined, int32([2], [6, 5])]), /key_padding_mask of shape \[2\]/)
    const past = random([2, 4, 1, 8], 1)
    refuse(node([query, k, v, undefined, undefined, undefined, past, past]), /a past of shape/)
  })
})
