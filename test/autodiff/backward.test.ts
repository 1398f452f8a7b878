/** @file The reverse walk: accumulation, what it visits, what it leaves behind, and what it says when it cannot go on. */

import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { customVjp } from '../../src/autodiff/custom-vjp.ts'
import { QuantError } from '../../src/errors.ts'
import { Builder } from '../../src/graph/builder.ts'
import { Graph, Node, Value } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { gradientsOf } from './gradients-of.ts'

const opsOf = (g: Builder, from = 0): string[] => g.graph.nodes.slice(from).map(node => node.kind)

test('a value used several times gets the sum of what comes back', async () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [3])
  // y = x^2 + 3 x + x / x^2
  const square = g.mul(x, x)
  const y = g.add(g.add(square, g.scale(x, 3)), g.div(x, square))
  const [dx] = await gradientsOf(g, y, [x], { x: floatTensor([3], [1, 2, -4]) })
  const expected = [1, 2, -4].map(v => 2 * v + 3 - 1 / (v * v))
  expected.forEach((value, i) => expect(dx![i]).toBeCloseTo(value, 5))
})

test('several seeds, one of them upstream of the other, add up', async () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2])
  const a = g.mul(x, x)
  const b = g.scale(a, 5)
  const seed = (values: number[]) => g.initializer('seed', floatTensor([2], values))
  const result = gradients(
    g,
    new Map([
      [a, seed([1, 10])],
      [b, seed([2, 0])],
    ]),
    [x, a],
  )
  g.output(g.op('Identity', [result.get(x)!]), 'dx')
  g.output(g.op('Identity', [result.get(a)!]), 'da')
  const { dx, da } = await runGraph(g.graph, { x: floatTensor([2], [3, 4]) }, { threads: 1 })
  expect(readNumbers(da!)).toEqual([11, 10])
  expect(readNumbers(dx!)).toEqual([66, 80])
})

test('wrt without a path from the seed gets zeros of its shape; an intermediate wrt gets its own gradient', async () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2])
  const lost = g.input('lost', 'float32', [2, 3])
  const middle = g.scale(x, 2)
  const aside = g.op('Exp', [lost])
  const y = g.mul(middle, middle)
  const grads = await gradientsOf(g, y, [lost, middle, x, aside], {
    x: floatTensor([2], [1, 3]),
    lost: floatTensor([2, 3], Array(6).fill(1)),
  })
  expect(grads).toEqual([Array(6).fill(0), [4, 12], [8, 24], Array(6).fill(0)])
})

test('a gradient does not pass through integers', async () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2])
  const y = g.mul(g.cast(g.cast(x, 'int64'), 'float32'), x)
  expect(await gradientsOf(g, y, [x], { x: floatTensor([2], [1.5, 2.5]) })).toEqual([[1, 2]])
})

test('only the path is visited: an op without a rule elsewhere does no harm', () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2, 4])
  const beside = g.op('CumSum', [g.input('other', 'float32', [2, 4]), g.scalar(1, 'int64')])
  const downstream = g.op('CumSum', [x, g.scalar(1, 'int64')])
  const y = g.mul(x, beside)
  const before = g.graph.nodes.length
  gradients(g, new Map([[y, y]]), [x])
  expect(downstream.producer).toBeDefined()
  expect(opsOf(g, before)).toEqual(['Mul'])
})

test('ops without a rule are named, the first one with the nodes around it, and nothing is written', () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2, 4])
  const summed = g.op('CumSum', [g.scale(x, 2), g.scalar(1, 'int64')])
  const y = g.op('Trilu', [g.op('Exp', [summed])])
  const run = () => gradients(g, new Map([[y, y]]), [x])
  expect(run).toThrow(QuantError)
  expect(run).toThrow(expect.objectContaining({ code: 'E_UNSUPPORTED', hint: 'Add a row in src/autodiff/rules.' }))
  expect(run).toThrowErrorMatchingInlineSnapshot(`
    [QuantError: no gradient rule for CumSum (node "cumSum"):
        mul: float32[2, 4] = Mul(x, 2)
      > cumSum: float32[2, 4] = CumSum(mul, 1)
        exp: float32[2, 4] = Exp(cumSum)
        trilu: float32[2, 4] = Trilu(exp)
    nor for: Trilu "trilu"]
  `)
  expect(opsOf(g)).toEqual(['Mul', 'CumSum', 'Exp', 'Trilu'])
})

test('a body that reads a value on the path is an error, not a silent zero', () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2])
  const body = new Graph('body')
  const inner = new Value('inner', 'float32', [2])
  body.nodes.push(new Node('Neg', [x], [inner]))
  body.outputs.push(inner)
  const y = new Value('y', 'float32', [2])
  const attributes = new Map([
    ['then_branch', { type: 'graph', value: body } as const],
    ['else_branch', { type: 'graph', value: body } as const],
  ])
  g.graph.nodes.push(new Node('If', [g.scalar(1, 'bool')], [y], attributes, '', 'branch'))
  expect(() => gradients(g, new Map([[y, x]]), [x])).toThrow('no gradient rule for If (node "branch")')
})

test('a gradient through an output that has no rule is refused', () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2, 4])
  const [, other] = g.ops('Relu', [x], 2)
  other!.dtype = 'float32'
  other!.shape = [2, 1]
  const seed = g.input('seed', 'float32', [2, 1])
  expect(() => gradients(g, new Map([[other!, seed]]), [x])).toThrow('no gradient rule for output 1 of Relu')
})

test('a seed of another shape is refused', () => {
  const g = new Builder()
  const x = g.input('x', 'float32', [2, 3])
  const y = g.neg(x)
  expect(() => gradients(g, new Map([[y, g.scalar(1)]]), [x])).toThrow('not of the type and shape')
})

describe('customVjp', () => {
  test('goes before the rule of the op: Round becomes straight-through', async () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [3])
    const rounded = g.op('Round', [x])
    customVjp(rounded.producer!, (_g, _node, dy) => [dy[0]])
    const y = g.mul(rounded, rounded)
    expect(await gradientsOf(g, y, [x], { x: floatTensor([3], [0.6, -1.2, 3]) })).toEqual([[2, -2, 6]])
  })

  test('belongs to one node: another Round beside it has no gradient', async () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [2])
    const through = g.op('Round', [x])
    customVjp(through.producer!, (_g, _node, dy) => [dy[0]])
    const y = g.mul(through, g.op('Round', [x]))
    expect(await gradientsOf(g, y, [x], { x: floatTensor([2], [2.2, 3.2]) })).toEqual([[2, 3]])
  })

  test('gives ops that have no rule one; its result is summed back to the shape of the input', async () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [1, 2])
    const summed = g.op('CumSum', [x, g.scalar(1, 'int64')])
    customVjp(summed.producer!, (g, _node, dy) => [g.concat([dy[0]!, dy[0]!], 0)])
    expect(await gradientsOf(g, summed, [x], { x: floatTensor([1, 2], [1, 2]) })).toEqual([[2, 2]])
  })

  test('a rule whose result cannot be the gradient of the input is caught', () => {
    const g = new Builder()
    const x = g.input('x', 'float32', [2, 3])
    const y = g.op('Round', [x])
    customVjp(y.producer!, (g, _node, dy) => [g.reshape(dy[0]!, [3, 2])])
    expect(() => gradients(g, new Map([[y, y]]), [x])).toThrow('[3, 2] is not of a shape that [2, 3] broadcasts to')
  })
})
