/** @file Order, names and producers of graphs: repaired, accepted and refused ones. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { type Graph, Node, Value } from '../../../src/graph/ir.ts'
import { floatTensor } from '../../../src/graph/tensor.ts'
import { sortTopologically, verify } from '../../../src/graph/onnx-file/verify.ts'

/** x -> a -> b -> c, with x added to each. */
function chain(length = 3): Graph {
  const g = new Builder()
  const x = g.input('x', 'float32', [2])
  let value = x
  for (let i = 0; i < length; i++) value = g.add(value, x)
  g.output(value)
  return g.graph
}

/** A graph whose If reads `captured` inside both branches. */
function withBranches(captured: (g: Builder, x: Value) => Value): Graph {
  const g = new Builder()
  const x = g.input('x', 'float32', [2])
  const inner = captured(g, x)
  const branch = () => {
    const body = new Builder(undefined, g.names)
    body.output(body.op('Neg', [inner]))
    return { type: 'graph' as const, value: body.graph }
  }
  const y = new Value('y')
  g.graph.nodes.push(
    new Node('If', [g.initializer('c', floatTensor([], [1]))], [y], new Map([['then_branch', branch()]])),
  )
  g.output(y)
  return g.graph
}

describe('sortTopologically', () => {
  it('restores the order of shuffled nodes and keeps one that is right', () => {
    const shuffles = fc.shuffledSubarray([...Array(12).keys()], { minLength: 12, maxLength: 12 })
    fc.assert(
      fc.property(shuffles, order => {
        const graph = chain(12)
        const nodes = graph.nodes
        graph.nodes = order.map(i => nodes[i]!)
        sortTopologically(graph)
        expect(graph.nodes).toEqual(nodes)
      }),
      { seed: 5, numRuns: 30 },
    )
  })

  it('is stable: independent nodes stay where they are', () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [2])
    for (const opType of ['Neg', 'Abs', 'Exp', 'Sqrt']) g.op(opType, [x])
    const before = [...g.graph.nodes]
    sortTopologically(g.graph)
    expect(g.graph.nodes).toEqual(before)
  })

  it('counts what bodies read, and sorts bodies', () => {
    const graph = withBranches((g, x) => g.op('Abs', [x]))
    graph.nodes.reverse()
    sortTopologically(graph)
    expect(graph.nodes.map(node => node.opType)).toEqual(['Abs', 'If'])
  })

  it('sorts chains longer than the stack is deep', () => {
    const graph = chain(30_000)
    graph.nodes.reverse()
    sortTopologically(graph)
    expect(() => verify(graph)).not.toThrow()
  })

  it('names a node of a cycle', () => {
    const graph = chain()
    graph.nodes[0]!.inputs[0] = graph.nodes[2]!.outputs[0]
    expect(() => sortTopologically(graph)).toThrow(
      expect.objectContaining({ code: 'E_NOT_ONNX', message: expect.stringMatching(/cycle through Add "add/) }),
    )
  })
})

describe('verify', () => {
  it('accepts graphs in order, with bodies that read outer values', () => {
    expect(() => verify(chain())).not.toThrow()
    expect(() => verify(withBranches((g, x) => g.op('Abs', [x])))).not.toThrow()
  })

  it.each<[string, (graph: Graph) => void, RegExp]>([
    ['wrong order', g => void g.nodes.reverse(), /reads "add" before Add "add" makes it/],
    [
      'a value from nowhere',
      g => void (g.nodes[1]!.inputs[0] = new Value('z')),
      /Add "add_1" reads "z", which nothing makes/,
    ],
    ['a result from nowhere', g => void (g.outputs[0] = new Value('z')), /the result of "graph" reads "z"/],
    ['a node that is gone', g => void g.nodes.splice(1, 1), /reads "add_1", which nothing makes/],
    ['two values of one name', g => void (g.nodes[1]!.outputs[0]!.name = 'x'), /"x" is defined more than once/],
    ['a value without a name', g => void (g.nodes[1]!.outputs[0]!.name = ''), /has no name/],
    ['a value made twice', g => void g.nodes.push(g.nodes[0]!), /"add" is defined more than once/],
    ['an initializer without values', g => void g.initializers.push(new Value('w')), /initializer "w" has no values/],
    ['a wrong producer', g => void (g.nodes[1]!.outputs[0]!.producer = g.nodes[0]), /"add_1" does not know/],
  ])('refuses %s', (_, damage, message) => {
    const graph = chain()
    damage(graph)
    expect(() => verify(graph)).toThrow(
      expect.objectContaining({ code: 'E_NOT_ONNX', message: expect.stringMatching(message) }),
    )
    expect(() => verify(graph, { code: 'E_INTERNAL' })).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }))
  })

  it('refuses a body that reads a value made after it', () => {
    const graph = withBranches((g, x) => g.op('Abs', [x]))
    graph.nodes.reverse()
    expect(() => verify(graph)).toThrow(/Neg .* reads "abs", which nothing makes|before/)
  })

  it('lists at most five problems and counts the rest', () => {
    const graph = chain(9)
    graph.inputs = []
    expect(() => verify(graph)).toThrow(/and 5 more$/)
  })
})
