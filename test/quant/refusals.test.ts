/** @file Models that are not quantized: the refusal says what stands in the way, by the name of the node, op or input. */

import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Graph, Node, Value } from '../../src/graph/ir.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { floatTensor, tensorOf } from '../../src/graph/tensor.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { TOY, toyDecoder, ToyGraph, toyLayer } from '../helpers/toy-decoder.ts'

const { hidden, heads } = TOY

/** Reason for the refusal of the model. `inspect` describes such a model all the same. */
async function problemOf(toy: ToyGraph): Promise<{ code: string; message: string } | undefined> {
  const path = join(testFolder(), 'model.onnx')
  await saveModel(toy.model, path)
  const { problem, nodes } = await inspectModel({ model: path })
  expect(nodes).toBe(toy.graph.nodes.length)
  return problem
}

const bytes = (dims: readonly number[]) =>
  tensorOf('uint8', dims, new Uint8Array(dims.reduce((product, dim) => product * dim, 1)))

test('toy decoders as they are have nothing against them', async () => {
  expect(await problemOf(toyDecoder())).toBeUndefined()
})

test('already quantized, inside a branch of an If', async () => {
  const toy = toyDecoder()
  const body = new Graph('then')
  const [logits] = toy.graph.outputs as [Value]
  const codes = toy.constant('codes', bytes([TOY.vocab, 2, 16]))
  const inner = new Value('quantized_logits', 'float32')
  const inputs = [
    logits,
    codes,
    toy.constant('scales', floatTensor([TOY.vocab, 2], Array<number>(2 * TOY.vocab).fill(1))),
  ]
  body.nodes.push(new Node('MatMulNBits', inputs, [inner], new Map(), 'com.microsoft', '/lm_head/MatMul_Q4'))
  body.outputs.push(inner)
  const flag = toy.constant('flag', tensorOf('bool', [], Uint8Array.of(1)))
  const output = new Value('out', 'float32', ['batch', 'sequence', TOY.vocab])
  const bodies = ['then_branch', 'else_branch'].map(name => [name, { type: 'graph', value: body }] as const)
  toy.graph.nodes.push(new Node('If', [flag], [output], new Map(bodies), '', '/If'))
  toy.graph.outputs = [output]
  expect(await problemOf(toy)).toMatchObject({
    code: 'E_ALREADY_QUANTIZED',
    message: 'the model is already quantized: node "/lm_head/MatMul_Q4" is com.microsoft.MatMulNBits',
  })
})

/** Attention without a mask, in one node or as its parts. */
function encoderLayer(parts: boolean): typeof toyLayer {
  return (toy, x, scope) => {
    const [q, k, v] = ['query', 'key', 'value'].map(part => toy.linear(`${scope}/${part}`, x, hidden, hidden)) as [
      Value,
      Value,
      Value,
    ]
    const mixed = parts
      ? toy.op(`${scope}/mix`, 'MatMul', [
          toy.op(scope, 'Softmax', [
            toy.op(`${scope}/scores`, 'MatMul', [
              q,
              toy.op(scope, 'Transpose', [k], { perm: { type: 'ints', value: [0, 2, 1] } }),
            ]),
          ]),
          v,
        ])
      : toy.op(`${scope}/attn`, 'com.microsoft.MultiHeadAttention', [q, k, v], { num_heads: heads })
    const attended = toy.op(scope, 'Add', [x, toy.linear(`${scope}/dense`, mixed, hidden, hidden)])
    return toy.op(scope, 'Add', [attended, toy.mlp(`${scope}/mlp`, toy.norm(`${scope}/norm`, attended))])
  }
}

test.each([
  [true, 'MatMul "/layers.0/scores/MatMul"'],
  [false, 'com.microsoft.MultiHeadAttention "/layers.0/attn/MultiHeadAttention"'],
])('an encoder: tokens see the ones after them (parts: %s)', async (parts, node) => {
  expect(await problemOf(toyDecoder({ layer: encoderLayer(parts) }))).toMatchObject({
    code: 'E_UNSUPPORTED',
    message: `the attention of ${node} shows every token the ones after it: this is an encoder, not a decoder`,
  })
})

test('an encoder with its own inputs', async () => {
  const toy = toyDecoder()
  toy.graph.inputs.push(new Value('token_type_ids', 'int64', ['batch', 'sequence']))
  expect(await problemOf(toy)).toMatchObject({
    code: 'E_INPUTS',
    message: 'inputs that omniquant does not know what to feed: "token_type_ids" int64 [batch, sequence]',
  })
})

test('a network for images', async () => {
  const toy = new ToyGraph(17)
  const pixels = new Value('pixel_values', 'float32', ['batch', 3, 8, 8])
  toy.graph.inputs.push(pixels)
  const y = toy.op('/stem', 'Conv', [pixels, toy.weight('stem.weight', [4, 3, 3, 3])])
  y.dtype = 'float32'
  toy.graph.outputs.push(y)
  expect(await problemOf(toy)).toMatchObject({
    code: 'E_INPUTS',
    message: 'the model has no input "input_ids"; its inputs are "pixel_values" float32 [batch, 3, 8, 8]',
  })
})

test('a convolution among the layers', async () => {
  const layer: typeof toyLayer = (toy, x, scope) => {
    const channels = toy.op(`${scope}/in`, 'Transpose', [x], { perm: { type: 'ints', value: [0, 2, 1] } })
    const weight = toy.weight(`${scope}.conv.weight`, [hidden, hidden, 1])
    const mixed = toy.op(`${scope}/conv`, 'Conv', [channels, weight])
    const back = toy.op(`${scope}/out`, 'Transpose', [mixed], { perm: { type: 'ints', value: [0, 2, 1] } })
    return toyLayer(toy, toy.op(scope, 'Add', [x, back]), scope)
  }
  expect(await problemOf(toyDecoder({ layer }))).toMatchObject({
    code: 'E_UNSUPPORTED',
    message: 'no shape rule for Conv (node "/layers.0/conv/Conv")',
  })
})

test.each(['LinearAttention', 'CausalConvWithState'])('a layer with a state instead of a cache: %s', async opType => {
  const layer: typeof toyLayer = (toy, x, scope) =>
    scope === '/layers.0'
      ? toy.op(scope, 'Add', [x, toy.op(`${scope}/mixer`, `com.microsoft.${opType}`, [toy.norm(`${scope}/n`, x)])])
      : toyLayer(toy, x, scope)
  expect(await problemOf(toyDecoder({ layer }))).toMatchObject({
    code: 'E_UNSUPPORTED',
    message: expect.stringContaining(
      `com.microsoft.${opType} "/layers.0/mixer/${opType}": a layer that keeps a state other than keys and values`,
    ) as string,
  })
})

test('a state as an input is named as well', async () => {
  const toy = toyDecoder()
  toy.graph.inputs.push(new Value('past_conv.0', 'float32', ['batch', hidden, 3]))
  expect(await problemOf(toy)).toMatchObject({
    code: 'E_INPUTS',
    message: expect.stringContaining('"past_conv.0" float32 [batch, 64, 3]') as string,
  })
})

// onnxruntime-genai's builder for CUDA in float32: rotary attention with its weights inside, and cache outputs that nothing makes.
test('outputs that nothing computes', async () => {
  const toy = toyDecoder()
  toy.graph.outputs.push(new Value('present.0.key', 'float32', ['batch', heads, 'total', 16]))
  await expect(problemOf(toy)).rejects.toMatchObject({
    code: 'E_NOT_ONNX',
    message: expect.stringContaining('reads "present.0.key", which nothing makes') as string,
  })
})

test('attention with its weights and a rotary embedding inside', async () => {
  const layer: typeof toyLayer = (toy, x, scope) => {
    const weights = [toy.weight(`${scope}.qkv`, [hidden, 3 * hidden]), toy.weight(`${scope}.bias`, [3 * hidden])]
    const attributes = { num_heads: heads, unidirectional: 1, do_rotary: 1 }
    const mixed = toy.op(`${scope}/attn`, 'com.microsoft.Attention', [x, ...weights], attributes)
    return toyLayer(toy, toy.op(scope, 'Add', [x, mixed]), scope)
  }
  expect(await problemOf(toyDecoder({ layer }))).toMatchObject({
    code: 'E_UNSUPPORTED',
    message: 'com.microsoft.Attention "/layers.0/attn/Attention": do_rotary is not supported',
  })
})
