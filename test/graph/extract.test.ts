/** @file Nodes between given values, bodies included. */

import { describe, expect, it } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { capturedValues, dependencies } from '../../src/graph/dependencies.ts'
import { extract } from '../../src/graph/extract.ts'
import { Node, Value } from '../../src/graph/ir.ts'
import { floatTensor } from '../../src/graph/tensor.ts'

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
    expect(ops(extract(g.graph, [x], [y]))).toEqual(['Mul', 'Neg', 'Abs', 'Add'])
    expect(ops(extract(g.graph, [a], [y]))).toEqual(['Neg', 'Abs', 'Add'])
    expect(ops(extract(g.graph, [a], [left]))).toEqual(['Neg'])
    expect(ops(extract(g.graph, [x, left], [left]))).toEqual([])
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
    expect(ops(extract(g.graph, [x], [result]))).toEqual(['Mul', 'Neg', 'If'])
    // Within the body, values of the graph around must be given.
    expect(() => extract(body.graph, [a], body.graph.outputs)).toThrow(/also needs "neg"/)
    expect(ops(extract(body.graph, [a, left], body.graph.outputs))).toEqual(['Exp', 'Add'])
  })
})
