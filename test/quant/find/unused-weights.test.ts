/** @file Weights that are stored and lead nowhere, and those that lead to other outputs only, in graphs and in their bodies. */

import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Graph, Node, Value } from '../../../src/graph/ir.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { tensorOf } from '../../../src/graph/tensor.ts'
import { inspectModel } from '../../../src/quant/inspect.ts'
import { writeMergedModel } from '../../helpers/merged-model.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { toyDecoder, type ToyGraph } from '../../helpers/toy-decoder.ts'

async function unusedOf(change: (toy: ToyGraph) => void) {
  const toy = toyDecoder()
  change(toy)
  const path = join(testFolder(), 'model.onnx')
  await saveModel(toy.model, path)
  return (await inspectModel({ model: path })).unused
}

test('every weight of a sound file leads to the logits', async () => {
  expect(await unusedOf(() => {})).toEqual([])
  expect((await inspectModel({ model: await writeMergedModel(testFolder()) })).unused).toEqual([])
})

test('weights nobody reads, and weights of another output', async () => {
  const unused = await unusedOf(toy => {
    toy.weight('left.over', [64, 32])
    toy.weight('epsilon', [1])
    toy.constant('indices', tensorOf('int64', [4], BigInt64Array.of(1n, 2n, 3n, 4n)))
    const normed = toy.graph.nodes.at(-1)!.inputs[0]!
    const value = toy.linear('/value_head', normed, 64, 1)
    Object.assign(value, { name: 'value', dtype: 'float32', shape: ['batch', 'sequence', 1] })
    toy.graph.outputs.push(value)
  })
  expect(unused).toEqual([
    { name: 'left.over', dtype: 'float32', shape: [64, 32], sizeBytes: 8192 },
    { name: '/value_head.weight', dtype: 'float32', shape: [64, 1], sizeBytes: 256 },
  ])
})

test('in a body: what it reads of the graph around it is used, what it stores and does not read is not', async () => {
  const unused = await unusedOf(toy => {
    const [logits] = toy.graph.outputs as [Value]
    const [outer, inner] = [toy.weight('outer', [1, 96]), toy.weight('inner', [2, 96])]
    toy.graph.initializers = toy.graph.initializers.filter(value => value !== inner)
    const bodies = ['then_branch', 'else_branch'].map(name => {
      const body = new Graph(name)
      const sum = new Value(`${name}_sum`, 'float32')
      body.nodes.push(new Node('Add', [logits, outer], [sum], new Map(), '', `/${name}/Add`))
      body.outputs.push(sum)
      if (name === 'then_branch') body.initializers.push(inner)
      return [name, { type: 'graph', value: body }] as const
    })
    const flag = toy.constant('flag', tensorOf('bool', [], Uint8Array.of(1)))
    const output = new Value('shifted', 'float32', logits.shape)
    logits.name = 'unshifted'
    toy.graph.nodes.push(new Node('If', [flag], [output], new Map(bodies), '', '/If'))
    toy.graph.outputs = [output]
  })
  expect(unused.map(({ name }) => name)).toEqual(['inner'])
})
