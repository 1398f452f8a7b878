/** @file What is trained is what ships: the exported file computes what the training program's own forward computed. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ActivationStore } from '../../src/calibration/activation-store.ts'
import { feedsFor } from '../../src/calibration/model-io.ts'
import { Builder } from '../../src/graph/builder.ts'
import { Graph } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/load.ts'
import { saveModel } from '../../src/graph/save.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { readElements, tensorOf } from '../../src/graph/tensor.ts'
import { openModel, runGraph, type Tensors } from '../../src/kernels/session.ts'
import { type Analysis, analyze } from '../../src/quant/analyze.ts'
import { emitClipped, emitRanges } from '../../src/quant/clipping.ts'
import { embed } from '../../src/quant/embed.ts'
import { emitBlock } from '../../src/quant/emit-block.ts'
import { type ExportedLinear, exportLinears } from '../../src/quant/export.ts'
import type { ParameterVector } from '../../src/quant/parameters.ts'
import { type BlockPlan, planBlock } from '../../src/quant/plan.ts'
import { weightInput } from '../../src/quant/programs.ts'
import { foldBlock, learnBlock, readWeights, runBlock } from '../../src/quant/quantize-block.ts'
import { parseScheme, schemeName } from '../../src/quant/scheme.ts'

const MODEL = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const TOKENS = 32
const SAMPLES = 4

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'omniquant-export-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const ids = (i: number): BigInt64Array =>
  BigInt64Array.from({ length: TOKENS }, (_, t) => BigInt((i * 131 + t * 37 + 5) % 300))

/** The fake-quant forward as the last step of training would run it: x and the learned parameters -> y. */
async function trainedForward(plan: BlockPlan, vector: ParameterVector, feeds: Tensors): Promise<Float32Array> {
  const g = new Builder(new Graph('trained'))
  const x = g.input('x', 'float32', staticShape(plan.block.input))
  const weights = new Map(
    plan.block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
  const parameters = vector.split(g, g.input('parameters', 'float32', [vector.size]))
  const clipped = emitClipped(g, plan, weights, emitRanges(g, plan, weights), parameters)
  const fake = new Map([...clipped].map(([linear, { output }]) => [linear, output]))
  g.output(emitBlock(g, plan.block, x, fake), 'y')
  const { y } = await runGraph(g.graph, feeds)
  return readElements(y!) as Float32Array
}

/** Learns every block of the fixture; what the last forward of each gave for sample 0. */
async function learnAll(analysis: Analysis, scheme: ReturnType<typeof parseScheme>, work: string) {
  const open = () => new ActivationStore(work, SAMPLES, staticShape(analysis.blocks[0]!.input))
  const [float, quantized] = [open(), open()]
  const tokens = BigInt64Array.from(Array.from({ length: SAMPLES }, (_, i) => [...ids(i)]).flat())
  const calibration = { tokens, samples: SAMPLES, seqLen: TOKENS, notes: [] }
  for (const store of [float, quantized]) await embed(analysis, calibration, store)
  const exported: ExportedLinear[] = []
  const outputs: Float32Array[] = []
  for (const block of analysis.blocks) {
    const plan = planBlock(block, scheme)
    const weights = readWeights(block)
    await runBlock(block, weights, { from: float, to: float }, {})
    const settings = { epochs: 3, samples: SAMPLES, learningRate: 5e-2, schedule: 'constant' as const, session: {} }
    const learned = await learnBlock(plan, { x: quantized, y: float }, weights, settings)
    const x = tensorOf('float32', staticShape(block.input), quantized.read(0, 1))
    const parameters = tensorOf('float32', [learned.vector.size], learned.parameters)
    outputs.push(await trainedForward(plan, learned.vector, { x, parameters, ...weights }))
    const folded = await foldBlock(plan, weights, learned, {})
    await runBlock(block, folded.weights, { from: quantized, to: quantized }, {})
    block.linears.forEach(({ origin, inFeatures, outFeatures }, i) =>
      exported.push({ origin, packed: folded.packed[i]!, inFeatures, outFeatures }),
    )
  }
  for (const store of [float, quantized]) store.close()
  return { exported, outputs }
}

describe('what is trained is what ships', () => {
  test.each(
    [
      parseScheme('w4a16g32'),
      parseScheme('w3a16', { perChannel: true }),
      parseScheme('w2a16g16'),
      parseScheme('w5a16g64', { symmetric: true }),
      parseScheme('w8a16'),
    ].map(scheme => ({ name: schemeName(scheme), scheme })),
  )('$name: every block of the file gives the trained output', async ({ name, scheme }) => {
    const work = join(folder, name)
    mkdirSync(work)
    const analysis = await analyze(MODEL, TOKENS)
    const { exported, outputs } = await learnAll(analysis, scheme, work)
    exportLinears(analysis.model, exported, { accuracyLevel: 0 })
    const names = analysis.blocks.map(({ output }) => output.producer!.origin!.outputs[0]!.name)
    await saveModel(analysis.model, join(work, 'plain.onnx'))

    // Block outputs are inner values of the file: a copy shows them.
    const opened = loadModel(join(work, 'plain.onnx'))
    const produced = opened.graph.nodes.flatMap(node => node.outputs)
    opened.graph.outputs.push(...names.map(wanted => produced.find(value => value?.name === wanted)!))
    await saveModel(opened, join(work, 'shown.onnx'))
    const session = await openModel(join(work, 'shown.onnx'))
    const shown = await session.run(feedsFor(analysis.io, ids(0), 1, TOKENS), names)
    await session.release()
    names.forEach((output, i) => {
      const [got, expected] = [readElements(shown[output]!) as Float32Array, outputs[i]!]
      const largest = Math.max(...expected.map(Math.abs))
      const worst = Math.max(...expected.map((value, at) => Math.abs(value - got[at]!)))
      expect(worst / largest, `block ${i}`).toBeLessThan(1e-5)
    })
  })
})

test('the graph around the linears stays as it was', async () => {
  const before = loadModel(join(MODEL, 'model.onnx'))
  const analysis = await analyze(MODEL, TOKENS)
  const exported: ExportedLinear[] = []
  for (const block of analysis.blocks) {
    const { packed } = await foldBlock(planBlock(block, parseScheme('w4a16g32')), readWeights(block), undefined, {})
    block.linears.forEach(({ origin, inFeatures, outFeatures }, i) =>
      exported.push({ origin, packed: packed[i]!, inFeatures, outFeatures }),
    )
  }
  exportLinears(analysis.model, exported, { accuracyLevel: 4 })
  const { graph, opsetImports } = analysis.model
  const quantized = graph.nodes.filter(node => node.opType === 'MatMulNBits')
  expect(quantized.length).toBe(21)
  expect(quantized.every(node => node.int('accuracy_level', 0) === 4)).toBe(true)
  expect(opsetImports).toContainEqual({ domain: 'com.microsoft', version: 1 })
  const others = (nodes: typeof graph.nodes) =>
    nodes.filter(node => node.opType !== 'MatMulNBits').map(node => `${node.opType} ${node.name}`)
  const replaced = new Set(exported.map(({ origin }) => origin.name))
  expect(others(graph.nodes)).toEqual(others(before.graph.nodes.filter(node => !replaced.has(node.name))))
  const weights = new Set(exported.map(({ origin }) => origin.inputs[1]!.name))
  for (const { name } of before.graph.initializers)
    expect(
      graph.initializers.some(value => value.name === name),
      name,
    ).toBe(!weights.has(name))
})
