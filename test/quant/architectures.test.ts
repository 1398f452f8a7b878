/** @file Layers that no file at hand has: norms after the residual, embeddings narrower than the layers, norms on both sides, several tables. */

import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Attribute, Value } from '../../src/graph/ir.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { floatTensor } from '../../src/graph/tensor.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { findMappings } from '../../src/quant/plan/mappings/mappings.ts'
import { testFolder } from '../helpers/test-folder.ts'
import type { toyLayer } from '../helpers/toy-decoder.ts'
import { TOY, ToyGraph, toyDecoder } from '../helpers/toy-decoder.ts'

const { hidden, heads, vocab } = TOY

/** Linears of each block and the kinds of their mappings. */
async function found(toy: ToyGraph) {
  const path = join(testFolder(), 'model.onnx')
  await saveModel(toy.model, path)
  const { blocks } = await analyze(path, 8)
  return blocks.map(block => ({
    linears: block.linears.map(({ name }) => name.split('.').at(-1)),
    mappings: findMappings(block).mappings.map(({ kind, size }) => `${kind} ${size}`),
  }))
}

const SIX = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'up_proj', 'down_proj']

test('OPT-350m: norms after the residual additions, and projections of a narrower embedding outside the blocks', async () => {
  const narrow = 32
  const toy = new ToyGraph(17)
  const ids = new Value('input_ids', 'int64', ['batch', 'sequence'])
  toy.graph.inputs.push(ids)
  const embedded = toy.op('/embed', 'Gather', [toy.weight('embed.weight', [vocab, narrow]), ids])
  let x = toy.linear('/project_in', embedded, narrow, hidden)
  for (let i = 0; i < 3; i++) {
    const scope = `/layers.${i}`
    const middle = toy.norm(`${scope}/attn_norm`, toy.op(scope, 'Add', [x, toy.attention(`${scope}/attn`, x)]))
    x = toy.norm(`${scope}/final_norm`, toy.op(scope, 'Add', [middle, toy.mlp(`${scope}/mlp`, middle)]))
  }
  const out = toy.linear('/project_out', x, hidden, narrow)
  const logits = toy.linear('/lm_head', out, narrow, vocab)
  logits.dtype = 'float32'
  toy.graph.outputs.push(logits)
  // What a norm gives goes into the residual stream as well: no scale may leave it there.
  expect(await found(toy)).toEqual(
    Array.from({ length: 3 }, () => ({ linears: SIX, mappings: ['query-key 64', 'value 64', 'up-down 128'] })),
  )
})

test('Gemma 3: norms on both sides of attention and MLP, of each head, two rotary tables, windows in every other layer', async () => {
  const [local, global] = ['local', 'global'].map(kind => (part: string, toy: ToyGraph) => {
    const known = toy.graph.initializers.find(({ name }) => name === `${part}_${kind}`)
    return known ?? toy.weight(`${part}_${kind}`, [16, 8], { mean: kind === 'local' ? 0.5 : -0.5 })
  })
  const layer: typeof toyLayer = (toy, x, scope) => {
    const windowed = scope !== '/layers.1'
    const head = hidden / heads
    const normed = toy.norm(`${scope}/input_norm`, x)
    const project = (name: string) => toy.linear(`${scope}/${name}_proj`, normed, hidden, hidden)
    const ints = (name: string, numbers: readonly number[]) =>
      toy.constant(`${scope}.${name}`, {
        dtype: 'int64',
        dims: [numbers.length],
        data: new Uint8Array(BigInt64Array.from(numbers, BigInt).buffer),
      })
    const headNorm = (name: string, value: Value) => {
      const split = toy.op(`${scope}/${name}/split`, 'Reshape', [value, ints(`${name}_heads`, [0, 0, heads, head])])
      const normal = toy.norm(`${scope}/${name}`, split, toy.weight(`${scope}.${name}.weight`, [head], { mean: 1 }))
      return toy.op(`${scope}/${name}/merge`, 'Reshape', [normal, ints(`${name}_all`, [0, 0, hidden])])
    }
    const [q, k, v] = [headNorm('q_norm', project('q')), headNorm('k_norm', project('k')), project('v')]
    const past = toy.constant(`${scope}.past`, floatTensor([1, heads, 0, head], []))
    const table = (part: string) => (windowed ? local! : global!)(part, toy)
    const lengths = ['seqlens_k', 'total'].map((name, i) =>
      toy.constant(`${scope}.${name}`, {
        dtype: 'int32',
        dims: i === 0 ? [1] : [],
        data: new Uint8Array(Int32Array.of(i === 0 ? 7 : 8).buffer),
      }),
    )
    const attributes: Record<string, number | Attribute> = { num_heads: heads, kv_num_heads: heads, do_rotary: 1 }
    if (windowed) attributes['local_window_size'] = 4
    const inputs = [q, k, v, past, past, ...lengths, table('cos'), table('sin')]
    const mixed = toy.op(`${scope}/attn`, 'com.microsoft.GroupQueryAttention', inputs, attributes)
    const attended = toy.norm(`${scope}/post_attention_norm`, toy.linear(`${scope}/o_proj`, mixed, hidden, hidden))
    const middle = toy.op(scope, 'Add', [x, attended])
    const fed = toy.mlp(`${scope}/mlp`, toy.norm(`${scope}/pre_feedforward_norm`, middle))
    return toy.op(scope, 'Add', [middle, toy.norm(`${scope}/post_feedforward_norm`, fed)])
  }
  expect(await found(toyDecoder({ layers: 3, layer }))).toEqual(
    Array.from({ length: 3 }, () => ({
      linears: SIX,
      // The gains of q_norm and k_norm, shared by the heads, take the scales of 8 pairs.
      mappings: ['norm 64', 'query-key 8', 'value 64', 'norm 64', 'up-down 128'],
    })),
  )
})
