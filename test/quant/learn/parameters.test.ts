import { expect, test } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { readElements, tensorOf } from '../../../src/graph/tensor.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { ParameterVector } from '../../../src/quant/learn/parameters.ts'

const vector = new ParameterVector([
  { name: 'a', shape: [2, 3], initial: 4, learningRate: 1e-2 },
  { name: 'b', shape: [2], initial: 1, learningRate: 5e-3 },
])

test('lays parameters out one after the other', () => {
  expect(vector.size).toBe(8)
  expect([...vector.initial()]).toEqual([4, 4, 4, 4, 4, 4, 1, 1])
  expect(vector.stretches()).toEqual([
    { size: 6, rate: 1e-2 },
    { size: 2, rate: 5e-3 },
  ])
})

test('a view shares the elements', () => {
  const values = vector.initial()
  vector.view(values, 'b')[1] = 7
  expect(values[7]).toBe(7)
  expect(() => vector.view(values, 'c')).toThrow('there is no parameter "c"')
})

test('a program takes the vector apart as `view` does', async () => {
  const g = new Builder()
  const parts = vector.split(g, g.input('all', 'float32', [vector.size]))
  for (const [name, value] of parts) g.output(g.op('Identity', [value]), `out_${name}`)
  const values = Float32Array.from({ length: 8 }, (_, i) => i)
  const outputs = await runGraph(g.graph, { all: tensorOf('float32', [8], values) })
  expect(outputs['out_a']!.dims).toEqual([2, 3])
  expect(readElements(outputs['out_a']!)).toEqual(vector.view(values, 'a'))
  expect(readElements(outputs['out_b']!)).toEqual(vector.view(values, 'b'))
})
