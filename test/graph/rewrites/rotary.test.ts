/** @file Rotary embeddings against the kernels of onnxruntime. */

import { describe, expect, it } from 'vitest'
import { RewriteBuilder } from '../../../src/graph/rewrites/rewrite-builder.ts'
import { REWRITES } from '../../../src/graph/rewrites/table.ts'
import { int64Tensor, type Tensor } from '../../../src/graph/tensor.ts'
import { type Fused, expectSame, fusedNode, random, rewriteGraph } from './compare.ts'

// 2 sequences of 5 tokens, 3 heads of 16 channels. Any table will do: the ops do not ask for cosines.
const flat = random([2, 5, 48], 1)
const heads = random([2, 3, 5, 16], 2)
const positions = int64Tensor([2, 5], [0, 1, 2, 3, 4, 7, 6, 5, 4, 9])
const tables = (dims: readonly number[]): [Tensor, Tensor] => [random(dims, 3), random(dims, 4)]

describe('com.microsoft RotaryEmbedding', () => {
  const kind = 'com.microsoft.RotaryEmbedding'
  const node = (x: Tensor, position: Tensor, width: number, attributes: Fused['attributes'] = {}): Fused => ({
    kind,
    inputs: [x, position, ...tables([12, width / 2])],
    constants: [2, 3],
    attributes,
  })

  it.each<[string, Fused]>([
    ['4-D', node(heads, positions, 16)],
    ['4-D interleaved', node(heads, positions, 16, { interleaved: 1 })],
    ['3-D, head size from the tables', node(flat, positions, 16)],
    ['3-D interleaved with num_heads', node(flat, positions, 16, { num_heads: 3, interleaved: 1 })],
    ['offset', node(flat, int64Tensor([1], [3]), 16)],
    ['offset 4-D', node(heads, int64Tensor([1], [3]), 16)],
    ['partial', node(flat, positions, 8, { num_heads: 3, rotary_embedding_dim: 8 })],
    ['partial interleaved', node(flat, positions, 8, { num_heads: 3, rotary_embedding_dim: 8, interleaved: 1 })],
    ['partial 4-D', node(heads, positions, 8, { num_heads: 3, rotary_embedding_dim: 8 })],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  it('refuses packed batches, a scale, and a sequence longer than the tables', () => {
    const refuse = (fused: Fused, message: RegExp) => expect(() => rewriteGraph(fused)).toThrow(message)
    refuse(node(heads, positions, 16, { is_packed_batching: 1 }), /RotaryEmbedding "fused": is_packed_batching/)
    refuse(node(heads, positions, 16, { rotary_embedding_dim: 8 }), /rotary_embedding_dim = 8 with tables for 16/)
    const short: Fused = { kind, inputs: [heads, int64Tensor([1], [0]), ...tables([4, 8])] }
    refuse(short, /sequences of 5 tokens do not fit .* end at 4/)
  })

  it('makes the tables once for all nodes that turn by the same angles', () => {
    const fused = node(heads, positions, 16)
    const g = rewriteGraph(fused)
    const inputs = [...g.graph.inputs, ...g.graph.initializers].filter(({ name }) => name.startsWith('x'))
    const before = g.graph.nodes.length
    REWRITES.get(kind)!(g, fusedNode(fused, inputs), inputs)
    expect(g.graph.nodes.slice(before).map(added => added.kind)).toEqual(['Split', 'Concat', 'Mul', 'Mul', 'Add'])
  })

  it('makes the tables again when the nodes that made them were taken back', () => {
    const fused = node(heads, positions, 16)
    const whole = rewriteGraph(fused).graph
    const inputs = [...whole.inputs, ...whole.initializers].filter(({ name }) => name.startsWith('x'))
    const g = new RewriteBuilder()
    const rewrite = () => REWRITES.get(kind)!(g, fusedNode(fused, inputs), inputs)
    const refused = () => {
      rewrite()
      throw new Error('refused later')
    }
    expect(() => g.attempt(refused)).toThrow('refused later')
    expect(g.graph.nodes).toEqual([])
    rewrite()
    expect(g.graph.nodes).toHaveLength(whole.nodes.length)
  })
})

describe('RotaryEmbedding 23', () => {
  const node = (inputs: Fused['inputs'], attributes: Fused['attributes'] = {}): Fused => ({
    kind: 'RotaryEmbedding',
    inputs,
    attributes,
    opset: 23,
  })

  it.each<[string, Fused]>([
    ['4-D, tables per token', node([heads, ...tables([2, 5, 8])])],
    ['4-D, position_ids', node([heads, ...tables([12, 8]), positions])],
    ['4-D interleaved', node([heads, ...tables([2, 5, 8])], { interleaved: 1 })],
    ['3-D, tables per token', node([flat, ...tables([2, 5, 8])], { num_heads: 3 })],
    ['3-D, position_ids', node([flat, ...tables([12, 8]), positions], { num_heads: 3 })],
    ['partial', node([heads, ...tables([12, 4]), positions], { rotary_embedding_dim: 8 })],
    [
      '3-D partial interleaved',
      node([flat, ...tables([2, 5, 4])], { num_heads: 3, rotary_embedding_dim: 8, interleaved: 1 }),
    ],
  ])('%s', async (_, fused) => {
    await expectSame(fused)
  })

  it('refuses a 3-D input without num_heads', () => {
    expect(() => rewriteGraph(node([flat, ...tables([2, 5, 8])]))).toThrow(/3-D input without num_heads/)
  })
})
