/** @file Builder and names: each method against results computed by hand; one printed graph. */

import { describe, expect, it } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { consumersOf, Node, Value } from '../../src/graph/ir.ts'
import { Names } from '../../src/graph/names.ts'
import { print } from '../../src/graph/print.ts'
import { floatTensor, int64Tensor, readNumbers, type Tensor } from '../../src/graph/tensor.ts'
import { verify } from '../../src/graph/onnx-file/verify.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { replaceUses } from '../helpers/replace-uses.ts'

describe('Names', () => {
  it('are never given twice, even when one looks like another numbered', () => {
    const names = new Names(['a_1'])
    const given = ['a', 'a', 'a', 'a_1', 'b'].map(stem => names.fresh(stem))
    expect(given).toEqual(['a', 'a_2', 'a_3', 'a_1_1', 'b'])
    expect(new Set([...given, 'a_1']).size).toBe(6)
  })
})

describe('Builder', () => {
  const x: Tensor = floatTensor([2, 3], [1, 2, 3, 4, 5, 6])
  // Each method once, with what it computes from x, by hand.
  it.each<[string, (g: Builder, x: Value) => Value, number[], number[]]>([
    ['add', (g, x) => g.add(x, x), [2, 3], [2, 4, 6, 8, 10, 12]],
    ['sub', (g, x) => g.sub(x, x), [2, 3], [0, 0, 0, 0, 0, 0]],
    ['mul', (g, x) => g.mul(x, x), [2, 3], [1, 4, 9, 16, 25, 36]],
    ['div', (g, x) => g.div(x, x), [2, 3], [1, 1, 1, 1, 1, 1]],
    ['neg', (g, x) => g.neg(x), [2, 3], [-1, -2, -3, -4, -5, -6]],
    ['scale', (g, x) => g.scale(x, 2), [2, 3], [2, 4, 6, 8, 10, 12]],
    ['shift', (g, x) => g.shift(x, -1), [2, 3], [0, 1, 2, 3, 4, 5]],
    ['matMul', (g, x) => g.matMul(x, g.transposeLast(x)), [2, 2], [14, 32, 32, 77]],
    ['transpose', (g, x) => g.transpose(x, [1, 0]), [3, 2], [1, 4, 2, 5, 3, 6]],
    ['reshape', (g, x) => g.reshape(x, [3, 2]), [3, 2], [1, 2, 3, 4, 5, 6]],
    ['cast', (g, x) => g.cast(x, 'int32'), [2, 3], [1, 2, 3, 4, 5, 6]],
    ['reduceSum', (g, x) => g.reduceSum(x, [1]), [2, 1], [6, 15]],
    ['reduceMean', (g, x) => g.reduceMean(x, [0], false), [3], [2.5, 3.5, 4.5]],
    ['slice', (g, x) => g.slice(x, 1, 2, 0, -1), [2, 2], [3, 2, 6, 5]],
    ['concat', (g, x) => g.concat([x, x], 0), [4, 3], [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]],
    ['split', (g, x) => g.ops('Split', [x, g.ints([1, 2])], 2, { axis: 1 })[1]!, [2, 2], [2, 3, 5, 6]],
  ])('%s computes what its name says, and knows type and shape', async (_, build, dims, numbers) => {
    const g = new Builder()
    const y = build(g, g.input('x', 'float32', [2, 3]))
    g.output(y, 'y')
    verify(g.graph)
    const result = (await runGraph(g.graph, { x }))['y']!
    expect([result.dims, readNumbers(result)]).toEqual([dims, numbers])
    expect([y.dtype, y.shape]).toEqual([result.dtype, dims])
  })

  it('makes each small constant once', () => {
    const g = new Builder()
    expect(g.scalar(1)).toBe(g.scalar(1))
    expect(g.scalar(1)).not.toBe(g.scalar(1, 'float64'))
    expect(g.ints([1, 2])).toBe(g.ints([1, 2]))
    const types = (['float32', 'float64', 'bool', 'uint8', 'int32', 'int64'] as const).map(dtype => g.scalar(1, dtype))
    expect(types.map(({ tensor }) => readNumbers(tensor!))).toEqual(Array(6).fill([1]))
  })

  it('copies a node with other inputs and remembers where it came from', () => {
    const g = new Builder()
    const y = g.op('Softmax', [g.input('x', 'float32', [2, 3])], { axis: 0 })
    const other = new Builder()
    const [copied] = other.copy(y.producer!, [other.input('z', 'float32', [4, 5])])
    expect(print(other.graph)).toContain('softmax: float32[4, 5] = Softmax(z) {axis: 0}')
    expect(copied!.producer!.origin).toBe(y.producer)
    const [again] = new Builder().copy(copied!.producer!, [copied])
    expect(again!.producer!.origin).toBe(y.producer)
  })
})

describe('graphs', () => {
  function nested() {
    const g = new Builder()
    const x = g.input('x', 'float32', [2])
    const a = g.neg(x)
    const body = new Builder(undefined, g.names)
    const inner = body.neg(a)
    body.output(inner)
    const result = new Value('y')
    const node = new Node('If', [x], [result], new Map([['then_branch', { type: 'graph', value: body.graph }]]))
    g.graph.nodes.push(node)
    g.output(a)
    return { g, x, a, inner, node }
  }

  it('know who reads a value, bodies included', () => {
    const { g, x, a, inner, node } = nested()
    const consumers = consumersOf(g.graph)
    expect(consumers.get(x)).toEqual([a.producer, node])
    expect(consumers.get(a)).toEqual([inner.producer])
    expect(consumers.get(inner)).toBeUndefined()
  })

  it('replace values for every reader, through chains', () => {
    const { g, x, a, inner } = nested()
    const [b, c] = [new Value('b'), new Value('c')]
    replaceUses(
      g.graph,
      new Map([
        [a, b],
        [b, c],
      ]),
    )
    expect([inner.producer!.inputs[0], g.graph.outputs[0]]).toEqual([c, c])
    expect(a.producer!.inputs[0]).toBe(x)
  })

  it('give attributes with their defaults', () => {
    const node = new Node(
      'Op',
      [],
      [],
      new Map([
        ['i', { type: 'int', value: 2 }],
        ['f', { type: 'float', value: 0.5 }],
        ['is', { type: 'ints', value: [1] }],
        ['s', { type: 'string', value: 'text' }],
      ]),
    )
    expect([node.int('i', 0), node.float('f', 0), node.ints('is'), node.string('s', '')]).toEqual([2, 0.5, [1], 'text'])
    expect([node.int('f', 7), node.float('i', 7), node.ints('i'), node.string('i', 'no')]).toEqual([
      7,
      7,
      undefined,
      'no',
    ])
    expect([
      node.kind,
      new Node('Op', [], [], new Map(), 'com.x').kind,
      new Node('Op', [], [], new Map(), 'ai.onnx').kind,
    ]).toEqual(['Op', 'com.x.Op', 'Op'])
  })
})

it('prints a graph one node a line', () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2, 3])
  const w = g.initializer('w', floatTensor([3, 4], Array(12).fill(0)))
  const body = new Builder(undefined, g.names)
  body.output(body.op('Neg', [x]))
  body.graph.name = 'branch'
  const h = g.scale(g.op('Clip', [g.matMul(x, w), undefined, g.scalar(1)]), 0.5)
  const odd = new Node(
    'Odd',
    [h],
    [undefined, new Value('y')],
    new Map([
      ['body', { type: 'graph', value: body.graph }],
      ['value', { type: 'tensor', value: int64Tensor([1], [3]) }],
      ['names', { type: 'strings', value: ['a'] }],
      ['other', { type: 'opaque' }],
    ]),
    'com.x',
  )
  g.graph.nodes.push(odd)
  g.output(odd.outputs[1]!)
  expect(print(g.graph)).toMatchInlineSnapshot(`
    "graph graph(x: float32[2, 3]) {
      const w: float32[3, 4]
      matMul: float32[2, 4] = MatMul(x, w)
      clip: float32[2, 4] = Clip(matMul, _, 1)
      mul: float32[2, 4] = Mul(clip, 0.5)
      _, y: ?[?] = com.x.Odd(mul) {body: {...}, value: tensor int64[1], names: ["a"], other: ?}
        graph branch() {
          neg: float32[2, 3] = Neg(x)
          return neg
        }
      return y
    }"
  `)
})
