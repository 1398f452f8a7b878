/** @file Files of opset 11 to 20 raised to 21 compute what they did; what cannot be raised is refused by name. */

import { describe, expect, test } from 'vitest'
import { type Attribute, Graph, type Model, newModel, Node, opsetOf, Value } from '../../../src/graph/ir.ts'
import { decodeModel } from '../../../src/graph/onnx-file/decode.ts'
import { encodeModel } from '../../../src/graph/onnx-file/encode.ts'
import { verify } from '../../../src/graph/onnx-file/verify.ts'
import { checkOpset, raiseOpset } from '../../../src/graph/passes/raise-opset.ts'
import { readNumbers, tensorOf, type Tensor } from '../../../src/graph/tensor.ts'
import { type Fused, fusedNode, random, runAtOpset } from '../rewrites/compare.ts'

interface Old extends Fused {
  readonly opset: number
}

const x = random([2, 3, 4, 5], 1, 3)

/** A model of one node, in the file of its opset. Inputs after the first are constants. */
function modelOf(old: Old): Model {
  const graph = new Graph('old')
  const inputs = old.inputs.map((tensor, i) => {
    if (!tensor) return undefined
    const value = new Value(`x${i}`, tensor.dtype, tensor.dims, i > 0 ? tensor : undefined)
    ;(i > 0 ? graph.initializers : graph.inputs).push(value)
    return value
  })
  const node = fusedNode(old, inputs)
  graph.nodes.push(node)
  graph.outputs = node.outputs.filter(output => output !== undefined)
  return { ...newModel(graph, old.opset), irVersion: 7 }
}

/** Numbers of all outputs of a model. */
async function results(model: Model, feeds: Record<string, Tensor>): Promise<number[][]> {
  verify(model.graph)
  const outputs = await runAtOpset(model.graph, feeds, opsetOf(model))
  return model.graph.outputs.map(({ name }) => readNumbers(outputs[name]!))
}

const ints = (values: number[]) => ({ type: 'ints', value: values }) as const

const OLD: readonly (readonly [name: string, old: Old])[] = [
  ['ReduceMean with axes', { kind: 'ReduceMean', inputs: [x], attributes: { axes: ints([-1]) }, opset: 14 }],
  ['ReduceMax over all', { kind: 'ReduceMax', inputs: [x], attributes: { keepdims: 0 }, opset: 13 }],
  ['ReduceLogSumExp', { kind: 'ReduceLogSumExp', inputs: [x], attributes: { axes: ints([1, 2]) }, opset: 17 }],
  ['ReduceSum with axes', { kind: 'ReduceSum', inputs: [x], attributes: { axes: ints([0, 3]) }, opset: 12 }],
  ['Unsqueeze', { kind: 'Unsqueeze', inputs: [x], attributes: { axes: ints([0, 2]) }, opset: 11 }],
  ['Squeeze', { kind: 'Squeeze', inputs: [random([2, 1, 3], 2)], attributes: { axes: ints([1]) }, opset: 12 }],
  ['Softmax, axis 1 by default', { kind: 'Softmax', inputs: [x], opset: 11 }],
  ['Softmax along the last axis', { kind: 'Softmax', inputs: [x], attributes: { axis: 3 }, opset: 12 }],
  ['LogSoftmax from axis -2 on', { kind: 'LogSoftmax', inputs: [x], attributes: { axis: -2 }, opset: 12 }],
  ['Hardmax from axis 2 on', { kind: 'Hardmax', inputs: [x], attributes: { axis: 2 }, opset: 11 }],
  [
    'Split with sizes',
    { kind: 'Split', inputs: [x], attributes: { axis: 2, split: ints([1, 3]) }, outputs: ['a', 'b'], opset: 11 },
  ],
  ['Split in equal parts', { kind: 'Split', inputs: [x], attributes: { axis: 2 }, outputs: ['a', 'b'], opset: 17 }],
  ['Dropout', { kind: 'Dropout', inputs: [x], attributes: { ratio: { type: 'float', value: 0.4 } }, opset: 11 }],
]

describe('raiseOpset', () => {
  test.each(OLD)('%s', async (_, old) => {
    const model = modelOf(old)
    const feeds = { x0: old.inputs[0]! }
    const expected = await results(model, feeds)
    const [node] = model.graph.nodes
    // As it is, opset 21 refuses the node, or it gives other numbers.
    const careless = await runAtOpset(model.graph, feeds, 21).then(
      outputs => model.graph.outputs.map(({ name }) => readNumbers(outputs[name]!)),
      () => undefined,
    )
    const matters = old.kind !== 'ReduceMax' && old.attributes?.axis !== 3
    expect(careless === undefined || !isClose(careless, expected)).toBe(matters)
    raiseOpset(model, 21)
    expect(opsetOf(model)).toBe(21)
    expect(model.irVersion).toBe(10)
    expect(model.graph.nodes).toContain(node)
    expect(isClose(await results(model, feeds), expected)).toBe(true)
  })

  test('does nothing where the opset is high enough', () => {
    const model = modelOf({ kind: 'ReduceMean', inputs: [x], attributes: { axes: ints([-1]) }, opset: 17 })
    raiseOpset(model, 13)
    expect([opsetOf(model), model.irVersion, model.graph.nodes[0]!.inputs.length]).toEqual([17, 7, 1])
  })

  test('nodes in bodies too, and names that are taken', async () => {
    const graph = new Graph('if')
    const input = new Value('x', 'float32', [2, 3])
    const flag = new Value('flag', 'bool', [])
    graph.inputs = [input, flag]
    const body = (name: string, axis: number) => {
      const inner = new Graph(name)
      const y = new Value(`${name}_y`, 'float32')
      inner.nodes = [new Node('ReduceMean', [input], [y], new Map([['axes', ints([axis])]]), '', 'mean')]
      inner.outputs = [y]
      return { type: 'graph', value: inner } as const
    }
    const y = new Value('constant_ints_0', 'float32')
    const bodies = new Map<string, Attribute>([
      ['then_branch', body('then', 0)],
      ['else_branch', body('else', 1)],
    ])
    graph.nodes = [new Node('If', [flag], [y], bodies, '', 'if')]
    graph.outputs = [y]
    const model = newModel(graph, 14)
    const feeds = [0, 1].map(value => ({ x: random([2, 3], 4), flag: tensorOf('bool', [], Uint8Array.of(value)) }))
    const before = await Promise.all(feeds.map(each => results(model, each)))
    expect(before[0]).not.toEqual(before[1])
    raiseOpset(model, 21)
    for (const [i, each] of feeds.entries()) expect(isClose(await results(model, each), before[i]!)).toBe(true)
  })

  test('initializers that old formats list as inputs stay constants', () => {
    const model = modelOf({ kind: 'MatMul', inputs: [random([2, 3], 1), random([3, 2], 2)], opset: 12 })
    model.graph.inputs.push(...model.graph.initializers)
    model.irVersion = 3
    raiseOpset(model, 21)
    expect(model.graph.inputs.map(({ name }) => name)).toEqual(['x0'])
  })

  test('functions of the file say the new version', () => {
    const model = withFunction(new Node('Relu', [new Value('a')], [new Value('b')]))
    raiseOpset(model, 21)
    const { functions } = decodeModel(encodeModel(model))
    expect([...functions!.values()].map(({ opset, body }) => [opset, body.nodes.length])).toEqual([[21, 1]])
  })
})

describe('what is refused, before anything is changed', () => {
  const cases: readonly (readonly [old: Old, message: string])[] = [
    [{ kind: 'Relu', inputs: [x], opset: 10 }, 'the model is written in opset 10 and needs 21'],
    [
      { kind: 'RoiAlign', inputs: [x], opset: 15 },
      'the model is written in opset 15 and needs 21: RoiAlign "fused" means something else there',
    ],
    [{ kind: 'GroupNormalization', inputs: [x], opset: 18 }, 'opset 18 and needs 21: GroupNormalization "fused"'],
    [{ kind: 'DFT', inputs: [x], opset: 17 }, 'DFT "fused" means something else there'],
  ]
  test.each(cases)('%o', (old, message) => {
    const model = modelOf(old)
    expect(() => raiseOpset(model, 21)).toThrow(message)
    expect(() => checkOpset(model, 21)).toThrow(message)
    expect([opsetOf(model), model.irVersion]).toEqual([old.opset, 7])
  })

  test('a node in a function', () => {
    const axes = new Map([['axes', ints([-1])]])
    const model = withFunction(new Node('ReduceMean', [new Value('a')], [new Value('b')], axes, '', 'mean'))
    expect(() => checkOpset(model, 21)).toThrow('opset 17 and needs 21: ReduceMean "mean" in the function "F"')
  })
})

/** A model of opset 17 with a function of one node, as it is after a file was read. */
function withFunction({ opType, attributes, name }: Node): Model {
  const encoded = encodeModel({
    ...newModel(new Graph('caller'), 17),
    source: {
      functions: [
        {
          ...{ name: 'F', domain: 'local', input: ['a'], output: ['b'], opsetImport: [{ domain: '', version: 17 }] },
          node: [
            {
              ...{ opType, name, input: ['a'], output: ['b'] },
              attribute: [...attributes].map(([key, { value }]) => ({ name: key, type: 7, ints: value as number[] })),
            },
          ],
        },
      ],
    },
  })
  return decodeModel(encoded)
}

function isClose(got: readonly (readonly number[])[], expected: readonly (readonly number[])[]): boolean {
  return got.every(
    (numbers, i) =>
      numbers.length === expected[i]!.length && numbers.every((x, j) => Math.abs(x - expected[i]![j]!) < 1e-5),
  )
}
