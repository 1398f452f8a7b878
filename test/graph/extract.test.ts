/** @file Parts of a graph: what outputs are computed from, what depends on inputs, every tensor; bodies included. */

import { describe, expect, it } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { capturedValues, dependencies, dependents } from '../../src/graph/dependencies.ts'
import { extract } from '../../src/graph/extract.ts'
import { type Attribute, Graph, newModel, Node, tensorsOf, Value } from '../../src/graph/ir.ts'
import { floatTensor, type Tensor } from '../../src/graph/tensor.ts'

function diamond() {
  const g = new Builder()
  const x = g.input('x', 'float32', [2])
  const other = g.input('other', 'float32', [2])
  const w = g.initializer('w', floatTensor([2], [1, 2]))
  const a = g.mul(x, w)
  const left = g.op('Neg', [a])
  const right = g.op('Abs', [a])
  const unused = g.op('Exp', [other])
  const y = g.add(left, right)
  g.output(y)
  return { g, x, other, a, left, right, unused, y }
}
const ops = (nodes: readonly Node[]) => nodes.map(node => node.opType)

describe('extract', () => {
  it('gives what is needed, in order, and nothing else', () => {
    const { g, x, a, left, y } = diamond()
    expect(ops(extract(g.graph, [x], [y]).nodes)).toEqual(['Mul', 'Neg', 'Abs', 'Add'])
    expect(ops(extract(g.graph, [a], [y]).nodes)).toEqual(['Neg', 'Abs', 'Add'])
    expect(ops(extract(g.graph, [a], [left]).nodes)).toEqual(['Neg'])
    expect(ops(extract(g.graph, [x, left], [left]).nodes)).toEqual([])
  })

  it('gives a graph: the inputs and constants that are read, under the given outputs', () => {
    const { g, x, other, a, left, y } = diamond()
    const whole = extract(g.graph, [x, other], [y])
    expect([whole.inputs, whole.outputs]).toEqual([[x], [y]])
    expect(whole.initializers).toEqual(g.graph.initializers)
    expect(extract(g.graph, [a], [left])).toMatchObject({ inputs: [a], initializers: [], outputs: [left] })
    expect(g.graph.nodes).toHaveLength(5)
  })

  it('takes the constants that only a body reads', () => {
    const { g, x } = diamond()
    const [w] = g.graph.initializers
    const body = new Builder(undefined, g.names)
    body.output(body.op('Exp', [w!]))
    const result = new Value('result')
    g.graph.nodes.push(new Node('If', [x], [result], new Map([['then_branch', { type: 'graph', value: body.graph }]])))
    expect(extract(g.graph, [x], [result]).initializers).toEqual([w])
  })

  it('lists everything that is missing', () => {
    const { g, left, y, unused } = diamond()
    expect(() => extract(g.graph, [left], [y, unused])).toThrow(
      expect.objectContaining({
        code: 'E_INTERNAL',
        message: expect.stringMatching(/"add", "exp" also needs "other", "x"/),
      }),
    )
  })

  it('follows bodies into the graph around', () => {
    const { g, x, a, left } = diamond()
    const body = new Builder(undefined, g.names)
    const inner = body.op('Exp', [a])
    body.output(body.add(inner, left))
    const result = new Value('result')
    const node = new Node('If', [x], [result], new Map([['then_branch', { type: 'graph', value: body.graph }]]))
    g.graph.nodes.push(node)
    expect([...capturedValues(body.graph)]).toEqual([a, left])
    expect([...dependencies(node)]).toEqual([x, a, left])
    expect(ops(extract(g.graph, [x], [result]).nodes)).toEqual(['Mul', 'Neg', 'If'])
    // Within the body, values of the graph around must be given.
    expect(() => extract(body.graph, [a], body.graph.outputs)).toThrow(/also needs "neg"/)
    expect(ops(extract(body.graph, [a, left], body.graph.outputs).nodes)).toEqual(['Exp', 'Add'])
  })
})

describe('dependents', () => {
  it('are the inputs and all that is computed from them', () => {
    const { g, x, other, a, left, right, unused, y } = diamond()
    expect([...dependents(g.graph.nodes, [x])]).toEqual([x, a, left, right, y])
    expect([...dependents(g.graph.nodes, [other])]).toEqual([other, unused])
    expect([...dependents(g.graph.nodes, [left])]).toEqual([left, y])
  })

  it('include what reads them in a body alone', () => {
    const { g, x, other, left } = diamond()
    const body = new Builder(undefined, g.names)
    body.output(body.op('Exp', [left]))
    const result = new Value('result')
    const node = new Node('If', [other], [result], new Map([['then_branch', { type: 'graph', value: body.graph }]]))
    expect(dependents([...g.graph.nodes, node], [x])).toContain(result)
  })
})

describe('tensorsOf', () => {
  it('finds initializers, attributes, those of bodies, and of functions and their defaults', () => {
    const [w, attribute, inBody, inFunction, fallback] = [1, 2, 3, 4, 5].map(i => floatTensor([1], [i])) as [
      Tensor,
      ...Tensor[],
    ]
    const constant = (value: Tensor) => new Node('Constant', [], [new Value('c')], new Map([['value', tensor(value)]]))
    const tensor = (value: Tensor): Attribute => ({ type: 'tensor', value })
    const body = new Graph('body')
    body.nodes.push(constant(inBody!))
    const graph = new Graph()
    graph.initializers.push(new Value('w', 'float32', [1], w))
    graph.nodes.push(
      constant(attribute!),
      new Node('If', [], [], new Map([['else_branch', { type: 'graph', value: body }]])),
    )
    const called = new Graph('called')
    called.nodes.push(constant(inFunction!))
    const defaults = new Map([['value', tensor(fallback!)]])
    const model = { ...newModel(graph), functions: new Map([['local.Called', { body: called, defaults, opset: 21 }]]) }
    expect([...tensorsOf(graph)]).toEqual([w, attribute, inBody])
    expect([...tensorsOf(model)]).toEqual([w, attribute, inBody, inFunction, fallback])
  })
})
