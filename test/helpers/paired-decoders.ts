/**
 * @file A decoder in two files, as optimum wrote them before merged files: the fixture without its past, and the fixture itself.
 */

import { copyFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { tensorOf } from '../../src/graph/tensor.ts'
import { Value } from '../../src/graph/ir.ts'
import { replaceUses } from './replace-uses.ts'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')

/** Writes a file that gives keys and values, and takes none. */
export async function writePromptModel(path: string): Promise<string> {
  const model = loadModel(FIXTURE)
  const { graph } = model
  const pasts = new Set(graph.inputs.filter(({ name }) => name.startsWith('past_key_values')))
  for (const node of graph.nodes) {
    if (node.opType !== 'Concat' || !node.inputs.some(input => input && pasts.has(input))) continue
    node.opType = 'Identity'
    node.inputs = [node.inputs[1]]
    node.attributes.clear()
  }
  // The other readers ask for their length.
  const empty = new Map(
    [...pasts].map(past => {
      const dims = past.shape!.map((dim, axis) => (axis === 0 ? 1 : typeof dim === 'number' ? dim : 0))
      return [past, new Value(past.name, 'float32', dims, tensorOf('float32', dims, new Float32Array(0)))]
    }),
  )
  replaceUses(graph, empty)
  graph.inputs = graph.inputs.filter(input => !pasts.has(input))
  graph.initializers.push(...empty.values())
  await saveModel(model, path)
  return path
}

/** Writes both files into `folder`. */
export async function writePairedDecoders(folder: string): Promise<{ readonly prompt: string; readonly step: string }> {
  const prompt = await writePromptModel(join(folder, 'decoder_model.onnx'))
  const step = join(folder, 'decoder_with_past_model.onnx')
  copyFileSync(join(FIXTURE, 'model.onnx'), step)
  return { prompt, step }
}
