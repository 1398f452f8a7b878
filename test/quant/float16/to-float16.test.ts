/** @file The user's graph as a float16 model: one test for each kind of rule, and for bodies, functions, constants on disk. */

import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { isFileRange } from '../../../src/files/file-range.ts'
import { dtypeNumber } from '../../../src/graph/dtype.ts'
import { Graph, type Model, type Node, Value } from '../../../src/graph/ir.ts'
import { decodeModel } from '../../../src/graph/onnx-file/decode.ts'
import { encodeModel } from '../../../src/graph/onnx-file/encode.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { floatTensor, int64Tensor, readBytes, type Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { readFloats, storeFloats, toFloat16Bits } from '../../../src/kernels/float16.ts'
import { runGraph, type Tensors } from '../../../src/kernels/session.ts'
import { toFloat16 } from '../../../src/quant/float16/to-float16.ts'
import { ToyGraph } from '../../helpers/toy-decoder.ts'
import { noise } from '../../kernels/weights.ts'

const [ROWS, WIDTH] = [3, 8]
const LOWEST = -3.4028234663852886e38
const FLOAT32 = dtypeNumber('float32')

/** A graph x [3, 8], ids [3] -> y. Inner values have no declared type. */
function build(write: (toy: ToyGraph, x: Value, ids: Value) => Value): Model {
  const toy = new ToyGraph(21)
  const [x, ids] = [new Value('x', 'float32', [ROWS, WIDTH]), new Value('ids', 'int64', [ROWS])]
  toy.graph.inputs.push(x, ids)
  const y = write(toy, x, ids)
  y.dtype = 'float32'
  toy.graph.outputs.push(y)
  return toy.model
}

const scalar = (toy: ToyGraph, name: string, value: number): Value => toy.constant(name, floatTensor([], [value]))
const allNodes = (graph: Graph): Node[] =>
  graph.nodes.flatMap(node => [node, ...node.subgraphs().flatMap(body => allNodes(body))])
const castsOf = ({ graph }: Model): Node[] => allNodes(graph).filter(({ kind }) => kind === 'Cast')
/** "Pow:float32 Cast:float16 ..", nodes in order with the type of their first output. */
const typesOf = ({ graph }: Model): string =>
  allNodes(graph)
    .map(({ kind, outputs: [output] }) => `${kind}:${output!.dtype}`)
    .join(' ')

/** y as computed before and after the conversion. */
async function bothResults(
  write: Parameters<typeof build>[0],
  { x = noise(ROWS * WIDTH, 5), ids = [1, 2, 3] }: { x?: Float32Array; ids?: number[] } = {},
): Promise<{ model: Model; expected: Float32Array; got: Float32Array }> {
  const [before, model] = [build(write), build(write)]
  toFloat16(model)
  const feeds = (input: Tensor): Tensors => {
    const given: Tensors = { x: input, ids: int64Tensor([ROWS], ids) }
    return Object.fromEntries(
      Object.entries(given).filter(([name]) => model.graph.inputs.some(each => each.name === name)),
    )
  }
  const dims = [ROWS, WIDTH]
  const rounded = readFloats(storeFloats('float16', dims, x))
  const output = before.graph.outputs[0]!.name
  const [expected, got] = [
    await runGraph(before.graph, feeds(tensorOf('float32', dims, rounded))),
    await runGraph(model.graph, feeds(storeFloats('float16', dims, x))),
  ]
  expect(model.graph.outputs[0]!.name).toBe(output)
  expect(got[output]!.dtype).toBe('float16')
  return { model, expected: readFloats(expected[output]!), got: readFloats(got[output]!) }
}

/** Greatest difference, as a part of the greatest number. */
const difference = ({ expected, got }: { expected: Float32Array; got: Float32Array }): number =>
  Math.max(...expected.map((value, i) => Math.abs(value - got[i]!))) / Math.max(...expected.map(Math.abs))

/** x / sqrt(mean(x^2) + eps) * gain, as exporters write it. */
function rmsNorm(toy: ToyGraph, x: Value): Value {
  const squares = toy.op('n', 'Pow', [x, scalar(toy, 'two', 2)])
  const mean = toy.op('n', 'ReduceMean', [squares, toy.constant('axes', int64Tensor([1], [-1]))])
  const root = toy.op('n', 'Sqrt', [toy.op('n', 'Add', [mean, scalar(toy, 'eps', 1e-6)])])
  const normed = toy.op('n', 'Mul', [x, toy.op('n', 'Reciprocal', [root])])
  return toy.op('gained', 'Mul', [normed, toy.weight('gain', [WIDTH], { mean: 1 })])
}

const linear = (toy: ToyGraph, x: Value): Value => toy.linear('l', x, WIDTH, WIDTH)

describe('rules', () => {
  test('products, sums and activations: float16 throughout, without a Cast', async () => {
    const both = await bothResults((toy, x) => toy.op('', 'Add', [x, toy.op('', 'Sigmoid', [linear(toy, x)])]))
    expect(typesOf(both.model)).toBe('MatMul:float16 Sigmoid:float16 Add:float16')
    expect(both.model.graph.initializers.map(({ tensor }) => tensor!.dtype)).toEqual(['float16'])
    expect(difference(both)).toBeLessThan(2e-3)
  })

  test('a norm of primitives: float32 from the square to the gain, with one Cast before and one behind', async () => {
    // 400^2 is infinite in float16.
    const both = await bothResults((toy, x) => linear(toy, rmsNorm(toy, toy.op('', 'Neg', [x]))), {
      x: noise(ROWS * WIDTH, 5).map(value => 400 * value),
    })
    expect(typesOf(both.model)).toBe(
      'Neg:float16 Cast:float32 Pow:float32 ReduceMean:float32 Add:float32 Sqrt:float32 Reciprocal:float32 ' +
        'Mul:float32 Mul:float32 Cast:float16 MatMul:float16',
    )
    const constants = new Map(both.model.graph.initializers.map(({ name, tensor }) => [name, tensor!.dtype]))
    expect(constants.get('gain')).toBe('float32')
    expect(constants.get('eps')).toBe('float32')
    expect(difference(both)).toBeLessThan(2e-3)
  })

  test('a residual that is added to what a norm gives is float16 again', () => {
    const model = build((toy, x) => toy.op('r', 'Add', [x, rmsNorm(toy, x)]))
    toFloat16(model)
    expect(typesOf(model)).toMatch(/Mul:float32 Cast:float16 Add:float16$/)
  })

  test('a mask beyond float16 keeps its numbers: a row that is masked altogether gives no NaN', async () => {
    const both = await bothResults((toy, x) => {
      const lowest = tensorOf(
        'float32',
        [ROWS, WIDTH],
        Float32Array.from({ length: 24 }, (_, i) => (i < 12 ? LOWEST : 0)),
      )
      const masked = toy.op('', 'Add', [linear(toy, x), toy.constant('mask', lowest)])
      return linear(toy, toy.op('', 'Softmax', [masked], { axis: -1 }))
    })
    expect(typesOf(both.model)).toBe(
      'MatMul:float16 Cast:float32 Add:float32 Softmax:float32 Cast:float16 MatMul:float16',
    )
    expect(difference(both)).toBeLessThan(2e-3)
  })

  test('a mask for a fused attention is cut to the numbers of float16', async () => {
    const both = await bothResults((toy, x, ids) => {
      const heads = toy.op('', 'Unsqueeze', [linear(toy, x), toy.constant('zero', int64Tensor([1], [0]))])
      const isSmall = toy.op('', 'Less', [ids, toy.constant('three', int64Tensor([], [3]))])
      const row = toy.op('', 'Where', [isSmall, scalar(toy, 'none', 0), scalar(toy, 'lowest', LOWEST)])
      const mask = toy.op('', 'Reshape', [row, toy.constant('dims', int64Tensor([4], [1, 1, 1, ROWS]))])
      const whole = toy.op('', 'Expand', [mask, toy.constant('all', int64Tensor([4], [1, 2, ROWS, ROWS]))])
      const inputs = [heads, heads, heads, undefined, undefined, whole]
      const attended = toy.op('', 'com.microsoft.MultiHeadAttention', inputs, { num_heads: 2 })
      return toy.op('', 'Squeeze', [attended, toy.graph.initializers.find(({ name }) => name === 'zero')])
    })
    expect(typesOf(both.model)).toMatch(
      /Expand:float32 Max:float32 Min:float32 Cast:float16 com.microsoft.MultiHeadAttention:float16/,
    )
    expect(difference(both)).toBeLessThan(2e-3)
  })

  test('angles are float32: positions beyond 2048 are told apart', async () => {
    const both = await bothResults(
      (toy, x, ids) => {
        const axis = toy.constant('last', int64Tensor([1], [1]))
        const positions = toy.op('', 'Unsqueeze', [toy.op('', 'Cast', [ids], { to: FLOAT32 }), axis])
        const frequencies = Array.from({ length: WIDTH }, (_, i) => 500000 ** (-i / WIDTH))
        const row = toy.op('', 'Reshape', [
          toy.constant('frequencies', floatTensor([WIDTH], frequencies)),
          toy.constant('dims', int64Tensor([2], [1, WIDTH])),
        ])
        const cos = toy.op('', 'Cos', [toy.op('', 'MatMul', [positions, row])])
        return toy.op('', 'Mul', [x, cos])
      },
      { ids: [4097, 4098, 30001] },
    )
    expect(typesOf(both.model)).toBe(
      'Cast:float32 Unsqueeze:float32 Reshape:float32 MatMul:float32 Cos:float32 Cast:float16 Mul:float16',
    )
    expect(difference(both)).toBeLessThan(2e-3)
  })

  test('a number that float16 would lose keeps its op in float32', async () => {
    const both = await bothResults(
      (toy, x) => {
        const size = toy.op('', 'Add', [toy.op('', 'Abs', [x]), scalar(toy, 'eps', 1e-9)])
        return toy.op('', 'Div', [x, size])
      },
      { x: new Float32Array(ROWS * WIDTH).fill(1, 4) },
    )
    expect(typesOf(both.model)).toBe('Cast:float32 Abs:float16 Cast:float32 Add:float32 Div:float32 Cast:float16')
    expect(both.got[0]).toBe(0)
    expect(difference(both)).toBeLessThan(1e-3)
  })

  test('fused norms read and give float16; a norm’s statistics stay float32', async () => {
    const both = await bothResults((toy, x) => {
      const inputs = [toy.norm('n', x, toy.weight('g', [WIDTH], { mean: 1 })), toy.weight('h', [WIDTH], { mean: 1 })]
      const [y, mean] = toy.ops('', 'LayerNormalization', inputs, 2, { axis: -1 })
      return toy.op('', 'Add', [y, mean])
    })
    expect(typesOf(both.model)).toBe(
      'SimplifiedLayerNormalization:float16 LayerNormalization:float16 Cast:float16 Add:float16',
    )
    expect(difference(both)).toBeLessThan(3e-3)
  })

  test('an op without a row computes in float32, between Casts', async () => {
    const both = await bothResults((toy, x) => linear(toy, toy.op('', 'Softsign', [linear(toy, x)])))
    expect(typesOf(both.model)).toBe('MatMul:float16 Cast:float32 Softsign:float32 Cast:float16 MatMul:float16')
    expect(difference(both)).toBeLessThan(2e-3)
  })

  test('a comparison is made in float32 where one side is', () => {
    const model = build((toy, x) => {
      const isGreater = toy.op('', 'Greater', [x, toy.op('', 'Exp', [x])])
      return toy.op('', 'Where', [isGreater, x, scalar(toy, 'half', 0.5)])
    })
    toFloat16(model)
    const [greater] = model.graph.nodes.filter(({ kind }) => kind === 'Greater')
    expect(greater!.inputs.map(input => input!.dtype)).toEqual(['float32', 'float32'])
    expect(greater!.outputs[0]!.dtype).not.toBe('float16')
  })
})

describe('constants', () => {
  test('one that both types read stays float32 and is cast once', () => {
    const model = build((toy, x) => {
      const one = scalar(toy, 'one', 1)
      const scaled = toy.op('', 'Mul', [toy.op('', 'Exp', [x]), one])
      return toy.op('', 'Max', [toy.op('', 'Add', [toy.op('', 'Mul', [x, one]), one]), toy.op('', 'Sigmoid', [scaled])])
    })
    const copies = toFloat16(model)
    expect(model.graph.initializers.map(({ tensor }) => tensor!.dtype)).toEqual(['float32'])
    expect([...copies].map(([cast, constant]) => [cast.dtype, constant.name])).toEqual([['float16', 'one']])
  })

  test('of Constant nodes, in each of their forms', () => {
    const model = build((toy, x) => {
      const one = toy.op('', 'Constant', [], { value_float: { type: 'float', value: 0.1 } })
      const many = toy.op('', 'Constant', [], { value_floats: { type: 'floats', value: [1, 2, 3, 4, 5, 6, 7, 0.1] } })
      const tensor = toy.op('', 'Constant', [], { value: { type: 'tensor', value: floatTensor([], [0.1]) } })
      return [one, many, tensor].reduce((sum, each) => toy.op('', 'Add', [sum, each]), x)
    })
    toFloat16(model)
    const values = model.graph.nodes.flatMap(({ attributes }) => {
      const value = attributes.get('value')
      return value?.type === 'tensor' ? [value.value] : []
    })
    expect(values.map(({ dtype }) => dtype)).toEqual(['float16', 'float16', 'float16'])
    expect(readFloats(values[1]!)[7]).toBe(0.0999755859375)
    expect(castsOf(model)).toEqual([])
  })

  test('on disk stay there, and are rounded when they are read', () => {
    const path = resolve(import.meta.dirname, '../../../fixtures/tiny-llama/model.onnx')
    const [before, after] = [loadModel(path), loadModel(path)]
    toFloat16(after)
    const onDisk = after.graph.initializers.filter(({ tensor }) => isFileRange(tensor!.data))
    expect(onDisk.length).toBeGreaterThan(10)
    for (const { name, tensor } of onDisk) {
      const source = before.graph.initializers.find(each => each.name === name)!.tensor!
      const bits = toFloat16Bits(readFloats(source))
      expect(Buffer.compare(readBytes(tensor!), new Uint8Array(bits.buffer)), name).toBe(0)
    }
  })
})

describe('parts of the file', () => {
  test('an output that is computed in float32 keeps its name; float32 readers read the value before the Cast', async () => {
    const both = await bothResults((toy, x) => {
      const y = toy.op('', 'Exp', [x])
      toy.graph.outputs.push(toy.op('', 'Log', [y]))
      toy.graph.outputs.at(-1)!.dtype = 'float32'
      return y
    })
    const [log] = both.model.graph.nodes.filter(({ kind }) => kind === 'Log')
    expect(log!.inputs[0]!.producer!.kind).toBe('Exp')
    expect(both.model.graph.outputs.map(({ dtype }) => dtype)).toEqual(['float16', 'float16'])
    expect(difference(both)).toBeLessThan(1e-3)
  })

  test('declared types of inner values follow', () => {
    const model = build((toy, x) => toy.op('', 'Exp', [toy.op('', 'Neg', [x])]))
    const declared = (name: string) => ({ name, type: { tensorType: { elemType: FLOAT32 } } })
    model.graph.source = { valueInfo: model.graph.nodes.map(({ outputs: [output] }) => declared(output!.name)) }
    toFloat16(model)
    const read = decodeModel(encodeModel(model)).graph
    expect(read.nodes.map(({ kind, outputs: [output] }) => `${kind}:${output!.dtype}`)).toEqual([
      ...['Neg:float16', 'Cast:undefined', 'Exp:undefined', 'Cast:float16'],
    ])
  })

  test('a Cast to float32 of the source gives what its readers want', () => {
    const model = build((toy, x) => {
      const wide = toy.cast('', toy.op('', 'Neg', [x]), 'float32')
      return toy.cast('', toy.op('', 'Exp', [wide]), 'float32')
    })
    toFloat16(model)
    expect(typesOf(model)).toBe('Neg:float16 Cast:float32 Exp:float32 Cast:float16')
    expect(castsOf(model).map(node => node.int('to', 0))).toEqual([FLOAT32, dtypeNumber('float16')])
  })

  test('branches of If agree on a type; a body reads values around it', async () => {
    const both = await bothResults((toy, x, ids) => {
      const body = (kind: string) => {
        const inner = new ToyGraph(21)
        inner.graph.outputs.push(inner.op(kind, kind, [x]))
        return { type: 'graph' as const, value: inner.graph }
      }
      const first = toy.op('', 'Gather', [ids, toy.constant('zero', int64Tensor([], [0]))])
      const isOne = toy.op('', 'Equal', [first, toy.constant('one', int64Tensor([], [1]))])
      return linear(toy, toy.op('', 'If', [isOne], { then_branch: body('Exp'), else_branch: body('Neg') }))
    })
    expect(typesOf(both.model)).toMatch(/If:float16/)
    const bodies = both.model.graph.nodes.find(({ kind }) => kind === 'If')!.subgraphs()
    expect(bodies.map(({ outputs: [output] }) => output!.dtype)).toEqual(['float16', 'float16'])
    expect(difference(both)).toBeLessThan(2e-3)
  })

  test('states of a Loop are float32 over all its steps', async () => {
    const both = await bothResults((toy, x) => {
      const inner = new ToyGraph(21)
      const [step, go, state] = [
        new Value('step', 'int64', []),
        new Value('go', 'bool', []),
        new Value('state', 'float32', [ROWS, WIDTH]),
      ]
      inner.graph.inputs.push(step, go, state)
      const product = inner.op('in', 'MatMul', [state, inner.weight('w', [WIDTH, WIDTH])])
      inner.graph.outputs.push(inner.op('in', 'Identity', [go]), inner.op('in', 'Add', [state, product]))
      const body = { type: 'graph' as const, value: inner.graph }
      return linear(toy, toy.op('', 'Loop', [toy.constant('trips', int64Tensor([], [3])), undefined, x], { body }))
    })
    const loop = both.model.graph.nodes.find(({ kind }) => kind === 'Loop')!
    const [body] = loop.subgraphs()
    expect(body!.inputs[2]!.dtype).toBe('float32')
    expect(body!.outputs[1]!.dtype).toBe('float32')
    expect(loop.inputs[2]!.dtype).toBe('float32')
    expect(body!.nodes.find(({ kind }) => kind === 'MatMul')!.inputs.map(input => input!.dtype)).toEqual([
      ...['float16', 'float16'],
    ])
    expect(difference(both)).toBeLessThan(3e-3)
  })

  test('a function of the file is called with float32, whatever its name', () => {
    const model = build((toy, x) => toy.op('', 'Sigmoid', [x]))
    const local = { body: new Graph('Sigmoid'), defaults: new Map(), opset: 21 }
    toFloat16(Object.assign(model, { functions: new Map([['Sigmoid', local]]) }))
    expect(typesOf(model)).toBe('Cast:float32 Sigmoid:float32 Cast:float16')
  })
})
