/** @file GroupQueryAttention against the kernel of onnxruntime, one feature at a time. */

import { describe, expect, it } from 'vitest'
import { REWRITES } from '../../../src/graph/rewrites/table.ts'
import { floatTensor, int64Tensor, readNumbers, type Tensor } from '../../../src/graph/tensor.ts'
import {
  type Fused,
  expectClose,
  expectSame,
  float,
  fusedNode,
  int32,
  random,
  rewriteGraph,
  runFused,
  runRewritten,
} from './compare.ts'

// 2 sequences of 9 tokens; 4 query heads, 2 key heads, 16 channels: [q | k | v] is 64 + 32 + 32 columns wide.
const [batch, seqLen, headDim] = [2, 9, 16]
const packed = random([batch, seqLen, 128], 1, 3)
const [query, key, value] = [
  random([batch, seqLen, 64], 2, 3),
  random([batch, seqLen, 32], 3, 3),
  random([batch, seqLen, 32], 4),
]
// The CPU kernel wants tables whose width is a multiple of 8.
const caches: [Tensor, Tensor] = [random([12, 8], 5), random([12, 8], 6)]
const lengths = [int32([batch], [seqLen - 1, seqLen - 1]), int32([], [seqLen])]

interface Extras {
  readonly separate?: readonly [Tensor, Tensor, Tensor]
  readonly rotary?: readonly [Tensor, Tensor]
  readonly positions?: Tensor
  readonly bias?: Tensor
  readonly sink?: Tensor
  readonly gains?: readonly [Tensor, Tensor]
}

/** A node with the optional inputs given, in the op's order. */
function node(extras: Extras, attributes: Fused['attributes'] = {}): Fused {
  const past = floatTensor([batch, 2, 0, headDim], [])
  return {
    kind: 'com.microsoft.GroupQueryAttention',
    inputs: [
      ...(extras.separate ?? [packed, undefined, undefined]),
      ...[past, past, ...lengths],
      ...(extras.rotary ?? [undefined, undefined]),
      ...[extras.positions, extras.bias, extras.sink, undefined, undefined],
      ...(extras.gains ?? []),
    ],
    attributes: { num_heads: 4, kv_num_heads: 2, ...(extras.rotary && { do_rotary: 1 }), ...attributes },
    constants: [5, 6, 7, 8],
    outputs: ['y', 'present_key', 'present_value'],
  }
}

/** x / rms(x) * gain for every run of `gain.length` numbers: the norm of each head, by hand. */
function headNorm(x: Tensor, gain: Tensor, epsilon: number): Tensor {
  const [numbers, gains] = [readNumbers(x), readNumbers(gain)]
  const result = numbers.map((number, i) => {
    const start = i - (i % gains.length)
    const squares = numbers.slice(start, start + gains.length).reduce((sum, element) => sum + element * element, 0)
    return (number / Math.sqrt(squares / gains.length + epsilon)) * gains[i % gains.length]!
  })
  return floatTensor(x.dims, result)
}

describe('GroupQueryAttention', () => {
  const separate = [query, key, value] as const

  it.each<[string, Fused]>([
    ['packed', node({})],
    ['separate', node({ separate })],
    ['scale', node({}, { scale: float(0.6) })],
    ['scale 0 is the usual one', node({}, { scale: float(0) })],
    ['rotary', node({ rotary: caches })],
    ['rotary, separate', node({ rotary: caches, separate })],
    ['rotary interleaved', node({ rotary: caches }, { rotary_interleaved: 1 })],
    // In a prompt the CPU kernel takes the first position only, and counts on from there.
    [
      'position_ids',
      node({
        rotary: caches,
        positions: int64Tensor(
          [2, 9],
          [...Array(18).keys()].map(i => 2 + (i % 9)),
        ),
      }),
    ],
    ['local_window_size', node({}, { local_window_size: 3 })],
    ['local_window_size and rotary', node({ rotary: caches }, { local_window_size: 4 })],
    ['a window no token leaves', node({}, { local_window_size: seqLen })],
    ['softcap', node({}, { softcap: float(2) })],
    ['attention_bias [B, N, S, S]', node({ bias: random([batch, 4, seqLen, seqLen], 7, 4) })],
    ['attention_bias [B, 1, S, S]', node({ bias: random([batch, 1, seqLen, seqLen], 7, 4) })],
    [
      'attention_bias, softcap and a window',
      node({ bias: random([1, 1, seqLen, seqLen], 7, 4) }, { softcap: float(2), local_window_size: 5 }),
    ],
    ['smooth_softmax', node({}, { smooth_softmax: 1 })],
    ['head_sink', node({ sink: random([4], 7, 3) })],
    ['head_sink, which smooth_softmax does not change', node({ sink: random([4], 7, 3) }, { smooth_softmax: 1 })],
    ['head_sink, softcap and a window', node({ sink: random([4], 7, 3) }, { softcap: float(2), local_window_size: 4 })],
    ['not causal', node({}, { causal: 0 })],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  it('partial rotary: heads of 32 channels of which 16 turn', async () => {
    const { inputs, ...rest } = node({ rotary: caches })
    const past = floatTensor([batch, 2, 0, 32], [])
    await expectSame({
      ...rest,
      inputs: [random([batch, seqLen, 256], 1, 3), ...inputs.slice(1, 3), past, past, ...inputs.slice(5)],
    })
  })

  it.each<[string, Fused]>([
    ['cache buffers that nothing is in', node({}, { local_window_size: 4 })],
    ['sliding_window_cache', node({}, { local_window_size: 4, sliding_window_cache: 1 })],
  ])('%s', async (_, fused) => {
    const buffers = [random([batch, 2, 12, headDim], 8), random([batch, 2, 12, headDim], 9)]
    await expectSame({ ...fused, inputs: [...fused.inputs.slice(0, 3), ...buffers, ...fused.inputs.slice(5)] })
  })

  // The CPU kernel refuses these two inputs, so it is given heads that have been normalized already.
  it.each<[string, number | undefined]>([
    ['default epsilon', undefined],
    ['qk_norm_epsilon', 0.5],
  ])('q_norm_weight and k_norm_weight, %s', async (_, epsilon) => {
    const gains = [random([headDim], 8), random([headDim], 9)] as const
    // Small numbers, for which the default epsilon of 1e-6 counts.
    const [q, k] = [random([batch, seqLen, 64], 10, 2e-3), random([batch, seqLen, 32], 11, 2e-3)]
    const attributes: Fused['attributes'] = epsilon === undefined ? {} : { qk_norm_epsilon: float(epsilon) }
    const actual = await runRewritten(node({ separate: [q, k, value], rotary: caches, gains }, attributes))
    const normed = [headNorm(q, gains[0], epsilon ?? 1e-6), headNorm(k, gains[1], epsilon ?? 1e-6), value] as const
    const expected = await runFused(node({ separate: normed, rotary: caches }))
    expectClose(actual['y'], expected['y'])
  })

  it('refuses what has no formula', () => {
    const refuse = (fused: Fused, message: RegExp) => expect(() => rewriteGraph(fused)).toThrow(message)
    const withInput = (index: number, tensor: Tensor | undefined, fused = node({})): Fused => ({
      ...fused,
      inputs: fused.inputs.map((input, i) => (i === index ? tensor : input)),
    })
    refuse(node({}, { k_quant_type: 'PER_TENSOR' }), /k_quant_type = "PER_TENSOR"/)
    refuse(node({}, { causal: 0, local_window_size: 3 }), /local_window_size without causal/)
    refuse(node({}, { kv_num_heads: 0 }), /without num_heads and kv_num_heads/)
    refuse(node({}, { do_rotary: 1 }), /without its input 7 \(cos_cache\)/)
    const past = random([batch, 2, 1, headDim], 1)
    const used = withInput(5, int32([batch], [seqLen, seqLen]), withInput(3, past))
    refuse(used, /a past of shape \[2, 2, 1, 16\]/)
    refuse({ ...used, constants: [] }, /a past of shape \[2, 2, 1, 16\]/)
    refuse(withInput(2, undefined, node({ separate })), /key without value/)
    refuse(withInput(0, random([batch, seqLen, 100], 1)), /100 columns of packed q, k and v/)
    refuse(node({ bias: random([1, 1, seqLen, 12], 1) }), /attention_bias of shape \[1, 1, 9, 12\] for 9 tokens/)
    refuse(node({ rotary: [random([12, 16], 1), random([12, 16], 1)] }), /tables for 32 channels and heads of 16/)
    refuse(node({ rotary: [random([8, 8], 1), random([8, 8], 1)] }), /sequences of 9 tokens do not fit .* end at 8/)
  })

  it('shares one causal mask between layers', () => {
    const g = rewriteGraph(node({}))
    const { inputs } = g.graph
    const values = [inputs[0], undefined, undefined, inputs[1], inputs[2]]
    REWRITES.get('com.microsoft.GroupQueryAttention')!(g, fusedNode(node({}), values), values)
    expect(g.graph.initializers.filter(({ name }) => name.startsWith('causal_mask'))).toHaveLength(1)
  })
})
