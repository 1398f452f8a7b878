/** @file Layers as exporters write them that no file at hand has: rotary tables made with NonZero, and other ways to route to experts. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Value } from '../../src/graph/ir.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { floatTensor, int64Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { planBlock } from '../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { equivalenceError } from '../helpers/equivalence.ts'
import { quantizeToy } from '../helpers/quantize-toy.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { TOY, type ToyAttributes, toyDecoder, type ToyGraph, toyLayer } from '../helpers/toy-decoder.ts'

const { hidden, heads } = TOY
const HEAD = hidden / heads
const EXPERTS = 4

type Layer = typeof toyLayer

/** Short names for what the layers below are made of. */
function writer(toy: ToyGraph, scope: string) {
  // Every constant has another number of constants before it.
  const name = (kind: string) => `${kind}_${toy.graph.initializers.length}`
  const ints = (...values: number[]) => toy.constant(name('ints'), int64Tensor([values.length], values))
  const int = (value: number) => toy.constant(name('int'), int64Tensor([], [value]))
  const number = (value: number) => toy.constant(name('number'), floatTensor([], [value]))
  const op = (kind: string, inputs: Value[], attributes: ToyAttributes = {}) => toy.op(scope, kind, inputs, attributes)
  const perm = (...axes: number[]) => ({ perm: { type: 'ints' as const, value: axes } })
  /** Zeros, or `value`, as int64 of the shape that `shape` holds. */
  const filled = (shape: Value, value: number) =>
    op('ConstantOfShape', [shape], { value: { type: 'tensor', value: int64Tensor([1], [value]) } })
  return { ints, int, number, op, perm, filled }
}

/** torch's repeat_interleave(2, dim=-1) of [rows, n], as TorchScript writes it: which copies there are is asked of NonZero. */
function interleaved(toy: ToyGraph, scope: string, x: Value): Value {
  const { ints, int, op, perm, filled } = writer(toy, scope)
  const columns = op('Transpose', [x], perm(1, 0))
  const count = op('Unsqueeze', [op('Gather', [op('Shape', [columns]), int(0)], { axis: 0 }), ints(0)])
  const repeats = filled(count, 2)
  const most = op('ReduceMax', [repeats], { keepdims: 0 })
  const copies = op('Range', [int(0), most, int(1)])
  const mask = op('Less', [copies, op('Unsqueeze', [repeats, ints(1)])])
  const indices = op('Transpose', [op('NonZero', [mask])], perm(1, 0))
  const rows = op('Unsqueeze', [op('Gather', [op('Shape', [x]), int(0)], { axis: 0 }), ints(0)])
  const shape = op('Concat', [count, op('Unsqueeze', [most, ints(0)]), rows], { axis: 0 })
  const repeated = op('Expand', [op('Unsqueeze', [columns, ints(1)]), shape])
  return op('Transpose', [op('GatherND', [repeated, indices])], perm(1, 0))
}

/** Attention whose neighbouring channels turn together (Cohere, GLM-4, Helium). */
const interleavedLayer: Layer = (toy, x, scope) => {
  const { ints, int, op } = writer(toy, scope)
  const tokens = op('Gather', [op('Shape', [x]), int(1)], { axis: 0 })
  const positions = toy.cast(`${scope}/positions`, op('Range', [int(0), tokens, int(1)]), 'float32')
  const speeds = toy.constant(
    `${scope}.inv_freq`,
    floatTensor([1, HEAD / 2], [1, 0.6, 0.35, 0.2, 0.1, 0.05, 0.02, 0.01]),
  )
  const angles = interleaved(toy, scope, op('Mul', [op('Unsqueeze', [positions, ints(1)]), speeds]))
  const [cos, sin] = ['Cos', 'Sin'].map(kind => op('Unsqueeze', [op(kind, [angles]), ints(1)])) as [Value, Value]
  const part = (from: Value, start: number) => op('Slice', [from, ints(start), ints(2 ** 40), ints(-1), ints(2)])
  const turned = (name: string, value: Value) => {
    const split = toy.op(`${scope}/${name}`, 'Reshape', [value, ints(0, 0, heads, HEAD)])
    const pair = [op('Neg', [part(split, 1)]), part(split, 0)].map(half => op('Unsqueeze', [half, ints(-1)]))
    const rotated = op('Reshape', [op('Concat', pair, { axis: -1 }), ints(0, 0, heads, HEAD)])
    const sum = op('Add', [op('Mul', [split, cos]), op('Mul', [rotated, sin])])
    return op('Reshape', [sum, ints(0, 0, hidden)])
  }
  const normed = toy.norm(`${scope}/input_norm`, x)
  const project = (name: string) => toy.linear(`${scope}/${name}_proj`, normed, hidden, hidden)
  const parts = [turned('q', project('q')), turned('k', project('k')), project('v')]
  const mixed = op('com.microsoft.MultiHeadAttention', parts, { num_heads: heads, unidirectional: 1 })
  const middle = op('Add', [x, toy.linear(`${scope}/o_proj`, mixed, hidden, hidden)])
  return op('Add', [middle, toy.mlp(`${scope}/mlp`, toy.norm(`${scope}/post_norm`, middle))])
}

/** Attention, then what `mixture` makes of the tokens [rows, hidden]. */
const withExperts =
  (mixture: (toy: ToyGraph, rows: Value, scope: string) => Value): Layer =>
  (toy, x, scope) => {
    const { ints, op } = writer(toy, scope)
    const middle = op('Add', [x, toy.attention(`${scope}/attn`, toy.norm(`${scope}/input_norm`, x))])
    const rows = op('Reshape', [toy.norm(`${scope}/post_norm`, middle), ints(-1, hidden)])
    const mixed = op('Reshape', [mixture(toy, rows, `${scope}/moe`), op('Shape', [middle])])
    return op('Add', [middle, mixed])
  }

/** gpt-oss as optimum has it: every token through all experts, in products of three dimensions; weights put in place by ScatterElements. */
const denseExperts = withExperts((toy, rows, scope) => {
  const { ints, op, perm } = writer(toy, scope)
  const logits = toy.linear(`${scope}/router`, rows, hidden, EXPERTS)
  const [greatest, places] = toy.ops(scope, 'TopK', [logits, ints(2)], 2, { axis: -1 }) as [Value, Value]
  const zeros = op('ConstantOfShape', [op('Shape', [logits])])
  const weights = op('ScatterElements', [zeros, places, op('Softmax', [greatest], { axis: 1 })], { axis: 1 })
  const tokens = op('Expand', [op('Unsqueeze', [rows, ints(0)]), ints(EXPERTS, 1, 1)])
  const product = (x: Value, name: string, from: number, to: number) =>
    toy.op(`${scope}/${name}`, 'MatMul', [x, toy.weight(`${scope}.${name}`, [EXPERTS, from, to])])
  const inner = op('Relu', [product(tokens, 'up', hidden, 48)])
  const perExpert = op('Unsqueeze', [op('Transpose', [weights], perm(1, 0)), ints(2)])
  return op('ReduceSum', [op('Mul', [product(inner, 'down', 48, hidden), perExpert]), ints(0)], { keepdims: 0 })
})

/** DeepSeek-V3 as optimum has it: first the better group of experts, then the best of these; their scores by GatherElements. */
const groupedExperts = withExperts((toy, rows, scope) => {
  const { ints, int, number, op } = writer(toy, scope)
  const scores = op('Sigmoid', [toy.linear(`${scope}/gate`, rows, hidden, EXPERTS)])
  const corrected = op('Add', [scores, toy.weight(`${scope}.correction`, [1, EXPERTS])])
  const top = (x: Value, k: number) => toy.ops(scope, 'TopK', [x, ints(k)], 2, { axis: -1 }) as [Value, Value]
  const [inGroups] = top(op('Reshape', [corrected, ints(-1, 2, EXPERTS / 2)]), 2)
  const groups = op('ReduceSum', [inGroups, ints(-1)], { keepdims: 0 })
  const [, group] = top(groups, 1)
  const one = op('Expand', [number(1), op('Shape', [group])])
  const chosen = op('ScatterElements', [op('ConstantOfShape', [op('Shape', [groups])]), group, one], { axis: 1 })
  const mask = op('Expand', [op('Unsqueeze', [chosen, ints(-1)]), ints(1, 2, EXPERTS / 2)])
  const closed = op('Not', [toy.cast(scope, op('Reshape', [mask, ints(-1, EXPERTS)]), 'bool')])
  const [, places] = top(op('Where', [closed, number(0), corrected]), 2)
  const picked = op('GatherElements', [scores, places], { axis: 1 })
  const weights = op('Div', [picked, op('ReduceSum', [picked, ints(-1)], { keepdims: 1 })])
  const table = op('ScatterElements', [op('ConstantOfShape', [op('Shape', [scores])]), places, weights], { axis: 1 })
  const results = Array.from({ length: EXPERTS }, (_, e) => {
    const weight = op('Unsqueeze', [op('Gather', [table, int(e)], { axis: 1 }), ints(1)])
    return op('Mul', [toy.mlp(`${scope}/experts.${e}`, rows), weight])
  })
  return results.reduce((a, b) => op('Add', [a, b]))
})

/** Granite-MoE: rows sorted by expert and cut where the next expert's begin. */
const sortedExperts = withExperts((toy, rows, scope) => {
  const { ints, op } = writer(toy, scope)
  const logits = toy.linear(`${scope}/router`, rows, hidden, 2)
  const hot = toy.cast(`${scope}/hot`, op('Greater', [logits, op('ReduceMin', [logits], { keepdims: 1 })]), 'int64')
  const sizes = op('ReduceSum', [hot, ints(0)], { keepdims: 0 })
  const parts = toy.ops(scope, 'Split', [rows, sizes], 2, { axis: 0 })
  return op(
    'Concat',
    parts.map((part, e) => toy.mlp(`${scope}/experts.${e}`, part)),
    { axis: 0 },
  )
})

async function saved(layer: Layer): Promise<string> {
  const path = join(testFolder(), 'model.onnx')
  await saveModel(toyDecoder({ layer, layers: 1 }).model, path)
  return path
}

describe.each<[string, Layer, number]>([
  ['rotary tables made with NonZero of shapes', interleavedLayer, 6],
  ['gpt-oss: weights scattered, all experts in one product', denseExperts, 4],
  ['DeepSeek-V3: groups of experts, scores gathered', groupedExperts, 4 + 2 * EXPERTS],
])('%s', (_, layer, linears) => {
  test.each([
    ['w8a16', 0.02],
    ['w8a8', 0.03],
    ['w4a4', 0.6],
  ])('%s', async (scheme, tolerance) => {
    const model = await saved(layer)
    const report = await quantizeToy(model, scheme, { epochs: 1 })
    expect(report.blocks.map(block => block.linears.length)).toEqual([linears])
    // With transformations: gradients went through everything the layer has.
    if (scheme === 'w4a4') expect(report.blocks.map(({ kept }) => kept)).not.toContain(undefined)
    const error = relativeError(await logitsOf(model), await logitsOf(report.output))
    expect(error).toBeGreaterThan(0)
    expect(error).toBeLessThan(tolerance)
  })

  test('transformations leave the blocks as they are, to 1e-9', async () => {
    const { blocks, values } = await analyze(await saved(layer), 8)
    const plans = blocks.map(block => planBlock(block, { scheme: parseScheme('w4a4'), let: true, values }))
    for (const plan of plans) {
      expect(plan.mappings.map(({ kind }) => kind)).toContain('query-key')
      expect(await equivalenceError(plan)).toBeLessThan(1e-9)
    }
  })
})

test('experts in one product of three dimensions stay float, with the reason', async () => {
  const report = await quantizeToy(await saved(denseExperts), 'w8a16')
  expect(report.skipped.map(({ reason }) => reason).slice(0, 3)).toEqual([
    'router: which experts a token is sent to depends on it',
    'its weight is stored as [4, 64, 48], which is no matrix',
    'its weight is stored as [4, 48, 64], which is no matrix',
  ])
})

test('experts that get their rows from a sorted list are refused, with what is supported instead', async () => {
  await expect(analyze(await saved(sortedExperts), 8)).rejects.toMatchObject({
    code: 'E_UNSUPPORTED',
    message: 'the sizes of the parts of a Split depend on the tokens (Split "/layers.0/moe/Split" of the model)',
    hint: expect.stringContaining('Granite-MoE'),
  })
})

test('NonZero of a constant that no decoder has is refused before it is read', async () => {
  const layer: Layer = (toy, x, scope) => {
    const { op, ints } = writer(toy, scope)
    const mask = toy.constant(`${scope}.mask`, tensorOf('bool', [2 ** 12, 2 ** 12], new Uint8Array(2 ** 24)))
    const count = op('Gather', [op('Shape', [op('NonZero', [mask])]), ints(0)], { axis: 0 })
    return toyLayer(toy, op('Add', [x, toy.cast(scope, count, 'float32')]), scope)
  }
  const toy = toyDecoder({ layer, layers: 1 })
  const path = join(testFolder(), 'model.onnx')
  await saveModel(toy.model, path, { externalData: false })
  await expect(analyze(path, 8)).rejects.toMatchObject({ code: 'E_TOO_LARGE', message: /NonZero .* \[4096, 4096\]/ })
})
