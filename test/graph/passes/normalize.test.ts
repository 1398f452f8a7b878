import { describe, expect, test } from 'vitest'
import { dtypeNumber, type DType } from '../../../src/graph/dtype.ts'
import { type Attribute, Graph, type Model, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { normalize } from '../../../src/graph/passes/normalize.ts'
import { floatTensor, int64Tensor, readElements, type Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { toFloat16Bits } from '../../../src/kernels/float16.ts'
import { runGraph } from '../../../src/kernels/session.ts'

/** A user's graph written by hand: no shapes but the input's, as exporters leave it. */
class Written {
  readonly graph: Graph = new Graph('user')
  readonly x: Value

  constructor(dtype: DType = 'float32') {
    this.x = new Value('x', dtype, ['batch', 'seq', 4])
    this.graph.inputs.push(this.x)
  }

  constant(name: string, tensor: Tensor): Value {
    const value = new Value(name, tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  op(opType: string, inputs: (Value | undefined)[], attributes: Record<string, Attribute> = {}): Value {
    const output = new Value(`${opType}_${this.graph.nodes.length}`)
    this.graph.nodes.push(
      new Node(opType, inputs, [output], new Map(Object.entries(attributes)), '', `node_${output.name}`),
    )
    return output
  }

  model(output: Value, opset = 18): Model {
    output.name = 'y'
    this.graph.outputs.push(output)
    return newModel(this.graph, opset)
  }
}

const int = (value: number): Attribute => ({ type: 'int', value })
const x: Tensor = floatTensor(
  [1, 3, 4],
  Float32Array.from({ length: 12 }, (_, i) => Math.sin(i + 1)),
)

/** The working copy for x [1, 3, 4], and what it computes. */
async function normalized(model: Model): Promise<{ graph: Graph; kinds: string[]; y: Float32Array; folds: number }> {
  let folds = 0
  const { graph } = await normalize(model, {
    fixedInputs: new Map(),
    shapes: new Map([['x', [1, 3, 4]]]),
    outputs: ['y'],
    evaluate: constants => {
      folds += 1
      return runGraph(constants, {}, { optimization: 'disabled' })
    },
  })
  const kinds = graph.nodes.map(node => node.kind)
  const [y] = Object.values(await runGraph(graph, { x }))
  return { graph, kinds, y: readElements(y!) as Float32Array, folds }
}

const values = readElements(x) as Float32Array

/** A body that gives 2x from a branch of a branch; `x` and constants are values of the graph around it. */
function doubling(w: Written): Graph {
  const two = w.constant('two', floatTensor([], [2]))
  const [inner, outer] = [new Graph('inner'), new Graph('outer')]
  const product = new Value('product')
  inner.nodes = [new Node('Mul', [w.x, two], [product], new Map(), '', 'double')]
  inner.outputs = [product]
  const flag = w.constant('flag', tensorOf('bool', [1], Uint8Array.of(1)))
  const result = new Value('result')
  outer.nodes = [new Node('If', [flag], [result], bodies(inner, inner), '', 'inner_if')]
  outer.outputs = [result]
  return outer
}

const bodies = (then: Graph, otherwise: Graph): Map<string, Attribute> =>
  new Map(
    Object.entries({ then_branch: then, else_branch: otherwise }).map(([name, value]) => [
      name,
      { type: 'graph', value },
    ]),
  )

/** A body nobody can copy. */
function mystery(w: Written): Graph {
  const body = new Graph('mystery')
  const output = new Value('odd')
  body.nodes = [new Node('Mystery', [w.x], [output], new Map(), 'com.example', 'mystery')]
  body.outputs = [output]
  return body
}

describe('If', () => {
  test.each([
    ['more than two', 3, 1, 2],
    ['less', 1, 2, 1],
  ])('the branch for the fixed shape stands in its place: %s', async (_, a, b, factor) => {
    const w = new Written()
    const condition = w.op('Greater', [w.constant('a', int64Tensor([], [a])), w.constant('b', int64Tensor([], [b]))])
    const identity = new Graph('identity')
    identity.outputs = [w.x]
    const output = new Value('chosen')
    w.graph.nodes.push(new Node('If', [condition], [output], bodies(doubling(w), identity), '', 'if'))
    const { kinds, y, graph } = await normalized(w.model(w.op('Neg', [output])))
    expect([...y]).toEqual([...values.map(value => -factor * value)])
    expect(kinds).toEqual(factor === 2 ? ['Mul', 'Neg'] : ['Neg'])
    // Every node knows the user's own, inside the branch.
    expect(graph.nodes.map(node => node.origin!.name)).toEqual(factor === 2 ? ['double', 'node_Neg_2'] : ['node_Neg_2'])
  })

  test('of a branch only what is read is copied', async () => {
    const w = new Written()
    const both = doubling(w)
    both.nodes.push(...mystery(w).nodes)
    both.outputs.push(both.nodes.at(-1)!.outputs[0]!)
    const [output, unread] = [new Value('chosen'), new Value('unread')]
    const flag = w.constant('yes', tensorOf('bool', [], Uint8Array.of(1)))
    w.graph.nodes.push(new Node('If', [flag], [output, unread], bodies(both, mystery(w)), '', 'if'))
    const { kinds } = await normalized(w.model(output))
    expect(kinds).toEqual(['Mul'])
  })

  test('a choice that depends on the tokens is refused by name', async () => {
    const w = new Written()
    const sum = w.op('ReduceSum', [w.x], { keepdims: int(0) })
    const condition = w.op('Greater', [sum, w.constant('zero', floatTensor([], [0]))])
    const output = new Value('chosen')
    w.graph.nodes.push(new Node('If', [condition], [output], bodies(doubling(w), doubling(w)), '', 'choice'))
    await expect(normalized(w.model(output))).rejects.toThrow('which branch of If "choice" runs depends on the tokens')
  })
})

describe('normalize', () => {
  test('computes shape arithmetic for the fixed shape, and leaves none of it', async () => {
    const w = new Written()
    const shape = w.op('Shape', [w.x])
    const seq = w.op('Gather', [shape, w.constant('one', int64Tensor([], [1]))], { axis: int(0) })
    const target = w.op(
      'Concat',
      [
        w.op('Unsqueeze', [seq, w.constant('zero', int64Tensor([1], [0]))]),
        w.constant('rest', int64Tensor([2], [2, -1])),
      ],
      { axis: int(0) },
    )
    const { kinds, graph, folds } = await normalized(w.model(w.op('Reshape', [w.x, target])))
    expect(kinds).toEqual(['Reshape'])
    expect(graph.outputs[0]!.shape).toEqual([3, 2, 2])
    expect(folds).toBe(1)
  })

  test('drops what only passes a value on: Identity, float Casts, Reshapes to the same shape', async () => {
    const w = new Written()
    const half = w.op('Cast', [w.op('Identity', [w.x])], { to: int(dtypeNumber('float16')) })
    const back = w.op('Cast', [half], { to: int(dtypeNumber('float32')) })
    const same = w.op('Reshape', [back, w.constant('same', int64Tensor([3], [0, 0, -1]))])
    const { kinds, y } = await normalized(w.model(w.op('Neg', [same])))
    expect(kinds).toEqual(['Neg'])
    expect(y).toEqual(values.map(value => -value))
  })

  test('drops the guard of rows without an open mask', async () => {
    const w = new Written()
    const p = w.op('Softmax', [w.x], { axis: int(-1) })
    const guarded = w.op('Where', [w.op('IsNaN', [p]), w.constant('nought', floatTensor([], [0])), p])
    expect((await normalized(w.model(guarded))).kinds).toEqual(['Softmax'])
  })

  test('drops an empty cache in front of new keys', async () => {
    const w = new Written()
    const past = w.constant('past', floatTensor([1, 0, 4], []))
    const { kinds } = await normalized(w.model(w.op('Neg', [w.op('Concat', [past, w.x], { axis: int(1) })])))
    expect(kinds).toEqual(['Neg'])
  })

  test('computes everything in float32, whatever the file stores', async () => {
    const w = new Written()
    const half = w.constant('half', tensorOf('float16', [4], toFloat16Bits(Float32Array.of(1, 2, 0.5, -1))))
    const { graph, y } = await normalized(w.model(w.op('Mul', [w.x, half])))
    expect(graph.nodes.map(node => node.outputs[0]!.dtype)).toEqual(['float32'])
    expect(y[1]).toBe(values[1]! * 2)
  })

  test('leaves weights where they are: only what small constants say is folded', async () => {
    const w = new Written()
    const stored = w.constant(
      'weight',
      floatTensor(
        [512, 4],
        Float32Array.from({ length: 2048 }, (_, i) => Math.cos(i)),
      ),
    )
    const transposed = w.op('Transpose', [stored], { perm: { type: 'ints', value: [1, 0] } })
    const { kinds, graph } = await normalized(w.model(w.op('MatMul', [w.x, transposed])))
    expect(kinds).toEqual(['Transpose', 'MatMul'])
    expect(graph.initializers.map(({ name }) => name)).toEqual(['weight'])
  })

  test('gathers from a transposed table as it is stored', async () => {
    const w = new Written('int64')
    w.graph.inputs[0]!.shape = ['batch', 'seq']
    const table = floatTensor(
      [4, 300],
      Float32Array.from({ length: 1200 }, (_, i) => i),
    )
    const rows = w.op('Transpose', [w.constant('lm_head', table)], { perm: { type: 'ints', value: [1, 0] } })
    const { graph } = await normalize(w.model(w.op('Gather', [rows, w.x], { axis: int(0) })), {
      fixedInputs: new Map(),
      shapes: new Map([['x', [1, 2]]]),
      outputs: ['y'],
      evaluate: runGraph,
    })
    expect(graph.nodes.map(node => node.kind)).toEqual(['Gather', 'Transpose'])
    const [y] = Object.values(await runGraph(graph, { x: int64Tensor([1, 2], [7, 299]) }))
    expect([...readElements(y!)]).toEqual([7, 307, 607, 907, 299, 599, 899, 1199])
  })

  test('writes Gemm as MatMul, whatever its factors and orientation', async () => {
    const w = new Written()
    const flat = w.op('Reshape', [w.x, w.constant('flat', int64Tensor([2], [3, 4]))])
    const weight = floatTensor([2, 4], [1, 2, 3, 4, 5, 6, 7, 8])
    const bias = floatTensor([2], [10, 20])
    const attributes: Record<string, Attribute> = {
      transB: int(1),
      alpha: { type: 'float', value: 0.5 },
      beta: { type: 'float', value: 2 },
    }
    const gemm = w.op('Gemm', [flat, w.constant('weight', weight), w.constant('bias', bias)], attributes)
    const { kinds, y, graph } = await normalized(w.model(gemm))
    expect(kinds).toEqual(['Reshape', 'MatMul', 'Mul', 'Add'])
    const first = values.slice(0, 4).reduce((sum, value, i) => sum + value * (i + 1), 0)
    expect(y[0]).toBeCloseTo(0.5 * first + 20, 5)
    expect(graph.nodes[1]!.origin?.opType).toBe('Gemm')
  })

  test('keeps one copy of constants that come out equal', async () => {
    const w = new Written()
    const twos = () =>
      w.op('ConstantOfShape', [w.constant(`shape${w.graph.nodes.length}`, int64Tensor([1], [4]))], {
        value: { type: 'tensor', value: floatTensor([1], [2]) },
      })
    const y = w.op('Mul', [w.op('Mul', [w.x, twos()]), twos()])
    const { graph, kinds } = await normalized(w.model(y))
    expect(kinds).toEqual(['Mul', 'Mul'])
    expect(graph.initializers.length).toBe(1)
  })

  test('names the node whose shape depends on data', async () => {
    const w = new Written()
    const count = w.op('Cast', [w.op('ReduceSum', [w.x], { keepdims: int(0) })], { to: int(dtypeNumber('int64')) })
    const model = w.model(w.op('Expand', [w.x, w.op('Unsqueeze', [count, w.constant('zero', int64Tensor([1], [0]))])]))
    await expect(normalized(model)).rejects.toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: expect.stringContaining('node_Expand') }),
    )
  })

  test('says which input has no value', async () => {
    const w = new Written()
    const extra = new Value('extra', 'float32', [4])
    w.graph.inputs.push(extra)
    await expect(normalized(w.model(w.op('Add', [w.x, extra])))).rejects.toThrow(
      expect.objectContaining({ code: 'E_INPUTS', message: expect.stringContaining('"extra"') }),
    )
  })
})
