/** @file One builder for the user's graph and for programs: names, types, shared constants, opset forms, order of nodes. */

import { describe, expect, it } from 'vitest'
import { GraphWriter } from '../../src/graph/graph-writer.ts'
import { Graph, type Model, newModel, Node, replaceOutput, Value } from '../../src/graph/ir.ts'
import { print } from '../../src/graph/print.ts'
import { floatTensor } from '../../src/graph/tensor.ts'

/** y = x * w, where nobody knows the shape of x; values and nodes already have some of the names that roles lead to. */
function userModel(opset: number): { model: Model; x: Value; y: Value } {
  const graph = new Graph('user')
  const x = new Value('x', 'float32', ['batch', undefined])
  const w = new Value('x_max_1', 'float32', [3, 4], floatTensor([3, 4], Array(12).fill(1)))
  const y = new Value('y', 'float32')
  graph.inputs.push(x)
  graph.initializers.push(w)
  graph.outputs.push(y)
  graph.nodes.push(new Node('MatMul', [x, w], [y], new Map(), '', '/mul'))
  const model = newModel(graph, opset)
  model.opsetImports = [{ domain: '', version: opset }]
  return { model, x, y }
}

describe('a builder of the user’s graph', () => {
  it('names values and nodes after their role, apart from all names of the graph', () => {
    const { model, x } = userModel(17)
    const writer = new GraphWriter(model)
    const g = writer.at({ values: 'x', nodes: '/x' })
    const values = [1, 2, 3].map(() => g.op('Max', [x, g.scalar(0)], {}, { role: 'max' }))
    expect(values.map(({ name }) => name)).toEqual(['x_max', 'x_max_2', 'x_max_3'])
    expect(writer.take().map(({ name }) => name)).toEqual(['/x_max', '/x_max_1', '/x_max_2'])
    expect(g.add(x, x).name).toBe('x_Add')
    const unnamed = writer.at({ values: 'x', nodes: '' }).op('Neg', [x])
    expect(unnamed.producer!.name).toBe('')
  })

  it('needs no shapes, takes the type of the first input or the one it is given, and imports domains', () => {
    const { model, x } = userModel(17)
    const g = new GraphWriter(model).at({ values: 'x', nodes: '' })
    expect([g.neg(x).dtype, g.neg(x).shape]).toEqual(['float32', undefined])
    expect(g.typed(x, 'float32')).toBe(x)
    const cast = g.typed(x, 'uint8')
    expect([cast.name, cast.dtype, cast.producer!.kind]).toEqual(['x_uint8', 'uint8', 'Cast'])
    const own = g.op('QMoE', [x], { k: 2 }, { domain: 'com.microsoft', dtype: 'float16' })
    expect([own.dtype, own.producer!.kind]).toEqual(['float16', 'com.microsoft.QMoE'])
    expect(model.opsetImports).toContainEqual({ domain: 'com.microsoft', version: 1 })
  })

  it('shares constants between the builders of one writer, named by their numbers', () => {
    const { model } = userModel(17)
    const writer = new GraphWriter(model)
    const [a, b] = ['a', 'b'].map(name => writer.at({ values: name, nodes: '' })) as [
      ReturnType<GraphWriter['at']>,
      ReturnType<GraphWriter['at']>,
    ]
    expect(a.scalar(0.5)).toBe(b.scalar(0.5))
    expect(a.ints([0, -1])).toBe(b.ints([0, -1]))
    expect(a.scalar(0.5).name).toBe('constant_float32_0.5')
    expect(a.ints([0, -1]).name).toBe('constant_ints_0_-1')
    expect([a, b].map(g => g.initializer('scale', floatTensor([1], [1])).name)).toEqual(['a_scale', 'b_scale'])
  })

  it.each([
    [17, 1],
    [18, 2],
  ])('reduces as opset %s has it, with %s inputs', (opset, inputs) => {
    const { model, x } = userModel(opset)
    const g = new GraphWriter(model).at({ values: 'x', nodes: '' })
    const { producer } = g.reduceLast('ReduceMax', x, { role: 'row_max' })
    expect(producer!.inputs).toHaveLength(inputs)
    expect(producer!.ints('axes')).toEqual(opset < 18 ? [-1] : undefined)
  })

  it('replaces nodes in place and drops the weights that are no longer read', () => {
    const { model, x, y } = userModel(17)
    const writer = new GraphWriter(model)
    writer.rewriteNodes(node => {
      const g = writer.at({ values: 'y', nodes: node.name })
      const first = writer.ahead(() => g.op('Neg', [g.scalar(2)], {}, { role: 'first' }))
      replaceOutput(g.op('Mul', [x, first], {}, { role: 'product' }), y)
      return writer.take()
    })
    writer.dropOrphans()
    expect(print(model.graph)).toMatchInlineSnapshot(`
      "graph user(x: float32[batch, ?]) {
        y_first: float32[?] = Neg(2)
        y: float32[?] = Mul(x, y_first)
        return y
      }"
    `)
  })

  it('cannot replace the output of no node', () => {
    const { x, y } = userModel(17)
    expect(() => {
      replaceOutput(x, y)
    }).toThrow('no node computes "x"')
  })
})
