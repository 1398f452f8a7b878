/** @file Pruning: what outputs depend on stays, bodies included, and nothing else. */

import { expect, test } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { Graph } from '../../src/graph/ir.ts'
import { prune } from '../../src/graph/prune.ts'
import { tensorOf } from '../../src/graph/tensor.ts'

test('nodes and constants that no output needs are removed, inputs are not', () => {
  const g = new Builder(new Graph('program'))
  const [x, unread] = [g.input('x', 'float32', [2]), g.input('unread', 'float32', [2])]
  const kept = g.initializer('kept', tensorOf('float32', [2], Float32Array.of(1, 2)))
  const sum = g.add(x, kept)
  const left = g.mul(sum, g.initializer('left', tensorOf('float32', [2], Float32Array.of(3, 4))))
  g.add(left, unread)
  g.output(g.neg(sum), 'y')
  prune(g.graph)
  expect(g.graph.nodes.map(({ opType }) => opType)).toEqual(['Add', 'Neg'])
  expect(g.graph.initializers).toEqual([kept])
  expect(g.graph.inputs).toEqual([x, unread])
})
