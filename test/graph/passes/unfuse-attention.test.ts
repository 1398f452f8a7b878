/** @file Attention with its weights inside: taken apart it says what onnxruntime's own kernel says, and its weight is quantized. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Attribute, Graph, type Model, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { normalize } from '../../../src/graph/passes/normalize.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { floatTensor, int64Tensor, readNumbers, type Tensor } from '../../../src/graph/tensor.ts'
import { openModel, runGraph, type Tensors } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { unfuseAttention } from '../../../src/graph/passes/unfuse-attention.ts'
import { expectClose, float, int32, random } from '../rewrites/compare.ts'
import { quantizeToy } from '../../helpers/quantize-toy.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { toyDecoder, TOY, type ToyGraph } from '../../helpers/toy-decoder.ts'

// 2 sequences of 6 tokens, 4 heads of 8 channels.
const x = random([2, 6, 32], 1, 2)
const weight = random([32, 96], 2)
const bias = random([96], 3)

interface Packed {
  readonly inputs: readonly (Tensor | undefined)[]
  readonly attributes?: Readonly<Record<string, number | Attribute>>
  readonly opset?: number
  /** Default: y alone. */
  readonly outputs?: readonly string[]
}

/** A file with one Attention: weight and bias are stored, the rest is fed. */
function packedModel({ inputs, attributes = {}, opset = 17, outputs = ['y'] }: Packed): {
  model: Model
  feeds: Tensors
} {
  const graph = new Graph('packed')
  const feeds: Tensors = {}
  const values = inputs.map((tensor, i) => {
    if (!tensor) return undefined
    const stored = i === 1 || i === 2
    const value = new Value(`x${i}`, tensor.dtype, tensor.dims, stored ? tensor : undefined)
    if (stored) graph.initializers.push(value)
    else {
      graph.inputs.push(value)
      feeds[value.name] = tensor
    }
    return value
  })
  graph.outputs = outputs.map(name => new Value(name, 'float32'))
  const entries = Object.entries({ num_heads: 4, ...attributes }).map(([name, value]): [string, Attribute] => [
    name,
    typeof value === 'number' ? { type: 'int', value } : value,
  ])
  graph.nodes.push(new Node('Attention', values, [...graph.outputs], new Map(entries), 'com.microsoft', 'attn'))
  return { model: newModel(graph, opset), feeds }
}

async function run(model: Model, feeds: Tensors): Promise<Tensors> {
  const path = join(testFolder(), 'model.onnx')
  await saveModel(model, path)
  const session = await openModel(path)
  try {
    return await session.run(feeds)
  } finally {
    await session.release()
  }
}

describe('com.microsoft Attention', () => {
  const past = random([2, 2, 4, 3, 8], 4)
  const empty = floatTensor([2, 2, 4, 0, 8], [])
  test.each<[string, Packed]>([
    ['plain', { inputs: [x, weight, bias] }],
    ['opset 11, where Split has its sizes as an attribute', { inputs: [x, weight, bias], opset: 11 }],
    ['unidirectional', { inputs: [x, weight, bias], attributes: { unidirectional: 1 } }],
    ['scale', { inputs: [x, weight, bias], attributes: { scale: float(0.6) } }],
    [
      'qkv_hidden_sizes',
      {
        inputs: [x, random([32, 112], 5), random([112], 6)],
        attributes: { qkv_hidden_sizes: { type: 'ints', value: [32, 32, 48] } },
      },
    ],
    ['a mask of ones', { inputs: [x, weight, bias, int32([2, 6], Array<number>(12).fill(1))] }],
    ['a mask', { inputs: [x, weight, bias, int32([2, 6], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1])] }],
    ['attention_bias', { inputs: [x, weight, bias, undefined, undefined, random([2, 4, 6, 6], 7, 3)] }],
    [
      'all together',
      {
        inputs: [x, weight, bias, int32([2, 6], Array<number>(12).fill(1)), undefined, random([1, 4, 6, 6], 7, 3)],
        attributes: { unidirectional: 1, scale: float(0.5) },
      },
    ],
    [
      'an empty past',
      {
        inputs: [x, weight, bias, undefined, empty],
        attributes: { unidirectional: 1 },
        outputs: ['y', 'present'],
      },
    ],
    [
      'a present that nothing came before, opset 11',
      {
        inputs: [x, weight, bias],
        attributes: { unidirectional: 1 },
        outputs: ['y', 'present'],
        opset: 11,
      },
    ],
    [
      'a past',
      {
        inputs: [x, weight, bias, undefined, past],
        attributes: { unidirectional: 1 },
        outputs: ['y', 'present'],
      },
    ],
  ])('%s', async (_, packed) => {
    const { model, feeds } = packedModel(packed)
    const expected = await run(model, feeds)
    unfuseAttention(model)
    expect(model.graph.nodes.map(({ kind }) => kind)).not.toContain('com.microsoft.Attention')
    const actual = await run(model, feeds)
    for (const name of packed.outputs ?? ['y']) expectClose(actual[name], expected[name])

    // The working copy of it, as primitives; a past that holds tokens has none.
    if (packed.inputs[4] === past) return
    const { x0, ...fixed } = feeds
    const { graph } = await normalize(model, {
      fixedInputs: new Map(Object.entries(fixed)),
      shapes: new Map([['x0', x0!.dims]]),
      outputs: ['y'],
      evaluate: constants => runGraph(constants),
    })
    const copied = await runGraph(graph, { x0: x0! })
    expectClose(Object.values(copied)[0], expected['y'])
  })

  test('without bias, which crashes the kernel: as with a bias of zeros', async () => {
    const { model, feeds } = packedModel({ inputs: [x, weight] })
    unfuseAttention(model)
    const zeros = packedModel({ inputs: [x, weight, floatTensor([96], Array<number>(96).fill(0))] })
    expectClose((await run(model, feeds))['y'], (await run(zeros.model, zeros.feeds))['y'])
  })

  test.each<[RegExp, Packed]>([
    [/Attention "attn": do_rotary is not supported/, { inputs: [x, weight, bias], attributes: { do_rotary: 1 } }],
    [/past_present_share_buffer/, { inputs: [x, weight, bias], attributes: { past_present_share_buffer: 1 } }],
    [/past_sequence_length/, { inputs: [x, weight, bias, undefined, past, undefined, int32([1], [3])] }],
  ])('refused: %s', (message, packed) => {
    expect(() => unfuseAttention(packedModel(packed).model)).toThrow(message)
  })
})

/** A GPT-2 as onnxruntime's optimizer writes it: attention with its weights inside, residuals inside the norms. */
function fusedLayer(toy: ToyGraph, hidden: Value, scope: string): Value {
  const { hidden: size, heads } = TOY
  const normed = toy.norm(`${scope}/ln_1`, hidden)
  const inside = [
    toy.weight(`${scope}.c_attn.weight`, [size, 3 * size]),
    toy.weight(`${scope}.c_attn.bias`, [3 * size]),
  ]
  const mixed = toy.op(`${scope}/attn`, 'com.microsoft.Attention', [normed, ...inside], {
    num_heads: heads,
    unidirectional: 1,
  })
  const attended = toy.linear(`${scope}/c_proj`, mixed, size, size)
  const gain = toy.gain(`${scope}.ln_2.weight`)
  const [y, , , sum] = toy.ops(
    `${scope}/ln_2`,
    'com.microsoft.SkipSimplifiedLayerNormalization',
    [hidden, attended, gain],
    4,
  )
  return toy.op(scope, 'Add', [sum, toy.mlp(`${scope}/mlp`, y!)])
}

describe('a decoder with its weights inside Attention', () => {
  test.each([
    ['w8a16', 0.02],
    ['w8a8', 0.05],
    ['w4a4', 0.6],
  ])('at %s all four linears of a block are quantized', async (scheme, tolerance) => {
    const model = join(testFolder(), 'model.onnx')
    await saveModel(toyDecoder({ layer: fusedLayer }).model, model)
    const { blocks } = await analyze(model, 8)
    expect(blocks.map(({ linears }) => linears.map(({ outFeatures }) => outFeatures))).toEqual(
      blocks.map(() => [192, 64, 128, 64]),
    )
    const report = await quantizeToy(model, scheme)
    expect(report.skipped).toEqual([])
    if (scheme === 'w4a4') expect(report.blocks[0]!.mappings!.length).toBe(5)
    // lm_head.
    expect(loadModel(report.output).graph.nodes.filter(({ kind }) => kind === 'MatMul')).toHaveLength(1)
    const ids = int64Tensor(
      [1, 12],
      [...Array(12).keys()].map(i => (i * 31 + 5) % TOY.vocab),
    )
    const logits = async (path: string) => {
      const session = await openModel(path)
      const result = await session.run({ input_ids: ids })
      await session.release()
      return result['logits']!
    }
    const [before, after] = [await logits(model), await logits(report.output)]
    const [a, b] = [readNumbers(before), readNumbers(after)]
    const worst = Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))
    expect(worst / (Math.max(...a) - Math.min(...a))).toBeLessThan(tolerance)
    expect(worst).toBeGreaterThan(0)
  })
})
