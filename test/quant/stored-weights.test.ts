/** @file Transposes that move nothing before weights: every reader takes the weight as it is stored. */

import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Graph, Node, Value } from '../../src/graph/ir.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { writeMergedModel } from '../helpers/merged-model.ts'
import { quantizeToy } from '../helpers/quantize-toy.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { toyDecoder } from '../helpers/toy-decoder.ts'

/** Puts a Transpose with `perm` before every matrix that a product or a lookup reads; in place. */
function transposeWeights(graph: Graph, perm: readonly number[]): void {
  graph.nodes = graph.nodes.flatMap(node => {
    const at = node.opType === 'MatMul' ? 1 : node.opType === 'Gather' ? 0 : undefined
    const weight = at === undefined ? undefined : node.inputs[at]
    if (at === undefined || weight?.tensor?.dims.length !== 2) return [node]
    const turned = new Value(`${node.name}_turned`)
    const transpose = new Node('Transpose', [weight], [turned], new Map([['perm', { type: 'ints', value: perm }]]))
    transpose.name = `${node.name}/Transpose`
    node.inputs = node.inputs.map((input, i) => (i === at ? turned : input))
    return [transpose, node]
  })
}

test('products of square weights, lm_head and the embedding behind Transpose [0, 1]', async () => {
  const model = join(testFolder(), 'model.onnx')
  const toy = toyDecoder()
  transposeWeights(toy.graph, [0, 1])
  expect(toy.graph.nodes.filter(({ opType }) => opType === 'Transpose')).toHaveLength(14)
  await saveModel(toy.model, model)
  const report = await quantizeToy(model, 'w8a16', { lmHead: 8, embedding: 8 })
  expect(report.blocks.map(({ linears }) => linears.length)).toEqual([6, 6])
  expect(report.outer.map(({ role }) => role)).toEqual(['lm_head', 'embedding'])
  const error = relativeError(await logitsOf(model), await logitsOf(report.output))
  expect(error).toBeGreaterThan(0)
  expect(error).toBeLessThan(0.02)
})

test('a merged file with such Transposes in one branch: both branches are quantized', async () => {
  const model = await writeMergedModel(testFolder(), branch => transposeWeights(branch, [0, 1]))
  const output = join(testFolder(), 'out.onnx')
  const report = await quantizeModel({
    ...{ model, output, scheme: parseScheme('w8a16'), lwc: false, let: false, samples: 1, seqLen: 8, epochs: 1 },
    ...{ seed: 0, learningRate: 1e-2, schedule: 'constant', accuracyLevel: 0 },
  })
  expect(report.notes.filter(note => note.includes('branch'))).toEqual([])
  for (const flag of [0, 1]) {
    const [before, after] = [await logitsOf(model, { flag }), await logitsOf(output, { flag })]
    expect(relativeError(before, after)).toBeLessThan(0.02)
  }
})
