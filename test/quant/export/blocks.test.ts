/** @file What is trained is what ships: the exported file computes what the training program's own forward computed. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { feedsFor } from '../../../src/calibration/model-io.ts'
import { Builder } from '../../../src/graph/builder.ts'
import { Graph } from '../../../src/graph/ir.ts'
import { loadModel } from '../../../src/graph/load.ts'
import { saveModel } from '../../../src/graph/save.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { readElements, type Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { openModel, runGraph } from '../../../src/kernels/session.ts'
import { type Analysis, analyze } from '../../../src/quant/analyze.ts'
import { BlockJob, type FinishedBlock, type Method } from '../../../src/quant/block-job.ts'
import { emitRanges } from '../../../src/quant/clipping.ts'
import { embed } from '../../../src/quant/embed.ts'
import type { ExportOptions } from '../../../src/quant/export/linears.ts'
import { exportBlocks } from '../../../src/quant/export/blocks.ts'
import { emitQuantizedBlock, weightInput } from '../../../src/quant/programs.ts'
import { readWeights } from '../../../src/quant/quantize-block.ts'
import { parseScheme, type SchemeOverrides, schemeName } from '../../../src/quant/scheme.ts'
import type { WeightRules } from '../../../src/quant/weight-rules.ts'

const MODEL = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')
const TOKENS = 32
const SAMPLES = 4

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'omniquant-export-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** ||got - expected|| / ||expected|| */
function relativeError(got: Float32Array, expected: Float32Array): number {
  const square = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0)
  return Math.sqrt(square(got.map((value, i) => value - expected[i]!)) / square(expected))
}

const ids = (i: number): BigInt64Array =>
  BigInt64Array.from({ length: TOKENS }, (_, t) => BigInt((i * 131 + t * 37 + 5) % 300))

/** The fake-quant forward as the last step of training would run it: x -> y. */
async function trainedForward({ plan, learned }: FinishedBlock, input: Tensor): Promise<Float32Array> {
  const g = new Builder(new Graph('trained'))
  const x = g.input('x', 'float32', staticShape(plan.block.input))
  const weights = new Map(
    plan.block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
  const size = learned?.vector.size ?? 0
  const parameters = learned?.vector.split(g, g.input('parameters', 'float32', [size]))
  g.output(
    emitQuantizedBlock(g, plan, x, weights, parameters ? emitRanges(g, plan, weights) : new Map(), parameters),
    'y',
  )
  const feeds = learned && { parameters: tensorOf('float32', [size], learned.parameters) }
  const { y } = await runGraph(g.graph, { x: input, ...readWeights(plan.block), ...feeds })
  return readElements(y!) as Float32Array
}

/** Learns every block of the fixture; what the last forward of each gave for sample 0. */
async function learnAll(analysis: Analysis, method: Method, work: string) {
  let files = 0
  const open = () => new ActivationStore(join(work, `${files++}.f32`), SAMPLES, staticShape(analysis.blocks[0]!.input))
  let [float, quantized, nextFloat, nextQuantized] = [open(), open(), open(), open()]
  const stores = [float, quantized, nextFloat, nextQuantized]
  const tokens = BigInt64Array.from(Array.from({ length: SAMPLES }, (_, i) => [...ids(i)]).flat())
  const calibration = { tokens, samples: SAMPLES, seqLen: TOKENS, notes: [] }
  for (const store of [float, quantized]) await embed(analysis, calibration, store)
  const job = new BlockJob(method, analysis.blocks.length, analysis.values)
  const finished: FinishedBlock[] = []
  const outputs: Float32Array[] = []
  for (const block of analysis.blocks) {
    const x = tensorOf('float32', staticShape(block.input), quantized.read(0, 1))
    finished.push(await job.run(job.plan(block), { float, quantized, nextFloat, nextQuantized }))
    ;[float, nextFloat, quantized, nextQuantized] = [nextFloat, float, nextQuantized, quantized]
    outputs.push(await trainedForward(finished.at(-1)!, x))
  }
  for (const store of stores) store.close()
  return { finished, outputs }
}

const METHOD = { lwc: true, epochs: 3, learningRate: 5e-2, schedule: 'constant' as const, session: {} }

describe('what is trained is what ships', () => {
  const rules: WeightRules = {
    ignore: ['v_proj', 'layers.0.mlp.up_proj', 'layers.1'],
    overrides: [
      { pattern: 'down_proj', bits: 8, group: 32 },
      { pattern: 'layers.2.*.q_proj', bits: 3, symmetric: true },
    ],
  }
  test.each<[string, SchemeOverrides, ExportOptions['format'], number, WeightRules?]>([
    ['w4a16g32', {}, undefined, 1e-5],
    ['w3a16', { perChannel: true }, undefined, 1e-5],
    ['w2a16g16', {}, undefined, 1e-5],
    ['w5a16g64', { symmetric: true }, undefined, 1e-5],
    ['w8a16', {}, undefined, 1e-5],
    // A number that rounds the other way, because sums were made in another order, moves a whole step: hence the wider bound.
    ['w8a8', {}, 'integer', 1e-4],
    ['w6a6', {}, 'integer', 1e-4],
    ['w4a4', {}, 'integer', 1e-4],
    ['w4a4', {}, 'portable', 1e-4],
    ['w4a8', { symmetric: true, symmetricActivations: true }, 'integer', 1e-4],
    ['w4a8g32', {}, 'integer', 1e-4],
    ['w4a16g64', {}, undefined, 1e-5, rules],
    ['w4a6', {}, 'integer', 1e-4, rules],
  ])('%s %o %s: every block of the file gives the trained output; %d, %o', async (...row) => {
    const [text, overrides, format, tolerance, exceptions] = row
    const scheme = parseScheme(text, overrides)
    const work = join(folder, `${schemeName(scheme)}-${format}-${exceptions !== undefined}`)
    mkdirSync(work)
    const analysis = await analyze(MODEL, TOKENS)
    const { finished, outputs } = await learnAll(analysis, { ...METHOD, ...exceptions, scheme }, work)
    expect(finished.map(({ report }) => report.linears.length)).toEqual(exceptions ? [5, 0, 6] : [7, 7, 7])
    expect(finished.map(({ report }) => report.kept !== undefined)).toEqual([true, exceptions === undefined, true])
    exportBlocks(analysis.model, finished, { accuracyLevel: 0, ...(format && { format }) })
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
      const got = readElements(shown[output]!) as Float32Array
      expect(relativeError(got, outputs[i]!), `block ${i}`).toBeLessThan(tolerance)
    })
  })
})

test('the graph around the linears stays as it was', async () => {
  const before = loadModel(join(MODEL, 'model.onnx'))
  const analysis = await analyze(MODEL, TOKENS)
  const job = new BlockJob({ ...METHOD, scheme: parseScheme('w4a16g32') }, 3, analysis.values)
  const finished: FinishedBlock[] = []
  for (const block of analysis.blocks) finished.push(await job.run(job.plan(block), undefined))
  exportBlocks(analysis.model, finished, { accuracyLevel: 4 })
  const exported = analysis.blocks.flatMap(({ linears }) => linears)
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
