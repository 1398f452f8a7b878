/** @file A merged decoder as optimum writes them, made of the fixture: one If, both branches with the same weights. */

import { join, resolve } from 'node:path'
import { Graph, type Model, newModel, Node, Value } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { replaceUses } from './replace-uses.ts'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama/model.onnx')

/** Writes the file into `folder` and returns its path. `change` may alter the branch that use_cache_branch chooses. */
export async function writeMergedModel(
  folder: string,
  change: (branch: Graph, model: Model) => void = () => {},
): Promise<string> {
  const [first, second] = [loadModel(FIXTURE), loadModel(FIXTURE)] as const
  const { graph } = first
  const shared = new Map([...graph.inputs, ...graph.initializers].map(value => [value.name, value]))
  const copies = [...second.graph.inputs, ...second.graph.initializers]
  replaceUses(second.graph, new Map(copies.map(value => [value, shared.get(value.name)!])))
  const branch = (name: string, { nodes, outputs }: Graph) => {
    const body = new Graph(name)
    body.nodes = nodes
    body.outputs = outputs
    return body
  }
  const [without, withCache] = [branch('no_past', graph), branch('with_past', second.graph)]

  const merged = new Graph('merged')
  const flag = new Value('use_cache_branch', 'bool', [1])
  merged.inputs = [...graph.inputs, flag]
  merged.initializers = graph.initializers
  merged.outputs = graph.outputs.map(({ name, dtype, shape }) => new Value(name, dtype, shape))
  const bodies = { then_branch: withCache, else_branch: without }
  const attributes = Object.entries(bodies).map(([name, value]) => [name, { type: 'graph', value }] as const)
  merged.nodes = [new Node('If', [flag], merged.outputs, new Map(attributes), '', 'optimum::if')]
  const model: Model = { ...newModel(merged, 18), opsetImports: first.opsetImports }
  change(withCache, model)
  const path = join(folder, 'decoder_model_merged.onnx')
  await saveModel(model, path)
  return path
}
