/** @file Nodes of old opsets, run from files of that opset, against their modern form. */

import { describe, expect, it } from 'vitest'
import { Graph, type Node, Value } from '../../../src/graph/ir.ts'
import type { DType } from '../../../src/graph/dtype.ts'
import { MODERNIZE } from '../../../src/graph/passes/modernize.ts'
import { RewriteBuilder } from '../../../src/graph/rewrites/rewrite-builder.ts'
import { int64Tensor, type Tensor } from '../../../src/graph/tensor.ts'
import { runGraph, type Tensors } from '../../../src/kernels/session.ts'
import { bool, expectClose, float, type Fused, fusedNode, random, runAtOpset } from '../rewrites/compare.ts'

/** A node of a file of `opset`: `inputs` after the first are constants. */
interface Old extends Omit<Fused, 'constants'> {
  readonly opset: number
  /** Element types of the outputs; float32 when absent. */
  readonly types?: readonly DType[]
}

const x = random([2, 3, 4, 5], 1, 3)

function declare(old: Old): { graph: Graph; inputs: (Value | undefined)[]; feeds: Tensors } {
  const graph = new Graph('old')
  const inputs = old.inputs.map((tensor, i) => {
    if (!tensor) return undefined
    const value = new Value(`x${i}`, tensor.dtype, tensor.dims, i > 0 ? tensor : undefined)
    ;(i > 0 ? graph.initializers : graph.inputs).push(value)
    return value
  })
  return { graph, inputs, feeds: { x0: old.inputs[0]! } }
}

/** Result of onnxruntime for the old file. */
async function runOld(old: Old): Promise<Tensors> {
  const { graph, inputs, feeds } = declare(old)
  const node = fusedNode(old, inputs)
  node.outputs.forEach((output, i) => {
    if (output) output.dtype = old.types?.[i] ?? 'float32'
  })
  graph.nodes.push(node)
  graph.outputs = node.outputs.filter(output => output !== undefined)
  return runAtOpset(graph, feeds, old.opset)
}

/** The node that the pass gives instead; undefined when it leaves the node alone. */
function modernized(g: RewriteBuilder, node: Node, inputs: readonly (Value | undefined)[], opset: number) {
  const step = MODERNIZE.apply({ g, opset }, node, inputs)
  if (step && !('node' in step)) throw new Error('the pass wrote the node')
  return step?.node
}

/** The node as opset 21 has it, run in a graph of opset 21, the way normalize copies it. */
async function runModern(old: Old): Promise<{ modern: Node; results: Tensors }> {
  const { graph, inputs, feeds } = declare(old)
  const g = new RewriteBuilder(graph)
  const node = fusedNode(old, inputs)
  const modern = modernized(g, node, inputs, old.opset)
  if (modern === undefined) throw new Error('nothing changed')
  expect(modern.origin).toBe(node)
  expect(modern.outputs.some(output => node.outputs.includes(output))).toBe(false)
  for (const value of g.copy(modern, modern.inputs)) g.output(value)
  const results = await runGraph(g.graph, feeds)
  for (const output of g.graph.outputs) expect(results[output.name]!.dims).toEqual(output.shape)
  return { modern, results }
}

async function expectModernized(old: Old, compare: readonly string[] = ['y']): Promise<Node> {
  const expected = await runOld(old)
  const { modern, results } = await runModern(old)
  for (const name of compare) expectClose(results[name], expected[name])
  return modern
}

const old = (
  kind: string,
  opset: number,
  attributes: Fused['attributes'] = {},
  inputs: readonly Tensor[] = [x],
): Old => ({
  kind,
  opset,
  attributes,
  inputs,
})

describe('modernize', () => {
  const reductions = 'ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp'
  it.each<[string, Old]>([
    ...reductions.split(' ').map((kind): [string, Old] => [`${kind} 13`, old(kind, 13, { axes: [-1] })]),
    ['ReduceSum 11', old('ReduceSum', 11, { axes: [1, -1], keepdims: 0 })],
    ['ReduceMean 7', old('ReduceMean', 7, { axes: [0, 2], keepdims: 0 })],
    ['Squeeze 11', old('Squeeze', 11, { axes: [0, 2] }, [random([1, 3, 1, 4], 2)])],
    ['Unsqueeze 11', old('Unsqueeze', 11, { axes: [0, 3] })],
    ['Slice 9', old('Slice', 9, { starts: [1, -3], ends: [1000, -1], axes: [1, 3] })],
    ['Slice 7 without axes', old('Slice', 7, { starts: [0, 1], ends: [1, 3] })],
    ['Clip 7', old('Clip', 7, { min: float(-1), max: float(0.5) })],
    ['Clip 10 with one bound', old('Clip', 10, { max: float(0.5) })],
    ['Pad 10', old('Pad', 10, { pads: [0, 0, 1, 0, 0, 2, 0, 0], value: float(0.5) })],
    ['Pad 7, reflecting', old('Pad', 7, { pads: [0, 0, 0, 1, 0, 0, 0, 2], mode: 'reflect' })],
    ['Softmax 12, default axis', old('Softmax', 12)],
    ['Softmax 11, last axis', old('Softmax', 11, { axis: 3 })],
    ['Softmax 11, negative axis', old('Softmax', 11, { axis: -2 })],
    ['Softmax 9, default axis is the last', old('Softmax', 9, {}, [random([3, 4], 1, 3)])],
    ['Softmax 12, ones behind the axis', old('Softmax', 12, { axis: 1 }, [random([2, 3, 1], 1, 3)])],
    ['LogSoftmax 12', old('LogSoftmax', 12, { axis: 2 })],
    ['Dropout 7', old('Dropout', 7, { ratio: float(0.5) })],
    ['Dropout 13', old('Dropout', 13)],
    ['Dropout 12 with its inputs', old('Dropout', 12, {}, [x, random([], 1), bool([], [false])])],
    ['Scatter 9', old('Scatter', 9, { axis: 1 }, [random([2, 3], 1), int64Tensor([2, 1], [2, 0]), random([2, 1], 5)])],
  ])('%s', async (_, node) => {
    await expectModernized(node)
  })

  it('Split 11 by sizes', async () => {
    const outputs = ['a', 'b', 'c']
    await expectModernized({ ...old('Split', 11, { axis: 3, split: [2, 2, 1] }), outputs }, outputs)
  })

  it.each([7, 13])('Split %i into equal parts', async opset => {
    const outputs = ['a', 'b']
    await expectModernized({ ...old('Split', opset, { axis: 2 }), outputs }, outputs)
  })

  it('TopK 9', async () => {
    const node: Old = {
      ...old('TopK', 9, { k: 2, axis: 1 }),
      outputs: ['values', 'indices'],
      types: ['float32', 'int64'],
    }
    await expectModernized(node, ['values', 'indices'])
  })

  it('drops the mask of Dropout', async () => {
    const node: Old = { ...old('Dropout', 10), outputs: ['y', 'mask'], types: ['float32', 'bool'] }
    const modern = await expectModernized(node)
    expect(modern.kind).toBe('Identity')
    expect(modern.outputs).toHaveLength(1)
    expect([...modern.attributes]).toEqual([])
  })

  it('Cast 24 without round_mode', async () => {
    const node: Old = { ...old('Cast', 24, { to: 7, round_mode: 'up' }), types: ['int64'] }
    await expectModernized(node)
  })

  it('keeps the name, the other attributes, and the names of the outputs', () => {
    const { graph, inputs } = declare(old('ReduceMean', 13, { axes: [1], keepdims: 0 }))
    const node = fusedNode(old('ReduceMean', 13, { axes: [1], keepdims: 0 }), inputs)
    const modern = modernized(new RewriteBuilder(graph), node, inputs, 13)!
    expect(modern.name).toBe('fused')
    expect(modern.outputs.map(output => output?.name)).toEqual(['y'])
    expect([...modern.attributes]).toEqual([['keepdims', { type: 'int', value: 0 }]])
  })

  it.each<[string, Old]>([
    ['reductions of everything', old('ReduceSum', 11)],
    ['axes that are inputs', old('ReduceMean', 18, {}, [x, int64Tensor([1], [1])])],
    ['Softmax 13', old('Softmax', 13, { axis: 1 })],
    ['Split that counts its parts', old('Split', 18, { num_outputs: 2 })],
    ['Clip without bounds', old('Clip', 7)],
    ['Clip 13', old('Clip', 13, {}, [x, random([], 1)])],
    ['a plain op', old('Add', 7, {}, [x, x])],
  ])('leaves %s alone', (_, unchanged) => {
    const { graph, inputs } = declare(unchanged)
    const node = fusedNode(unchanged, inputs)
    expect(modernized(new RewriteBuilder(graph), node, inputs, unchanged.opset)).toBeUndefined()
    expect(graph.nodes).toEqual([])
  })

  it('refuses Dropout in training mode', () => {
    const training = old('Dropout', 13, {}, [x, random([], 1), bool([], [true])])
    const { graph, inputs } = declare(training)
    expect(() => modernized(new RewriteBuilder(graph), fusedNode(training, inputs), inputs, 13)).toThrow(
      /training_mode = true/,
    )
  })
})
