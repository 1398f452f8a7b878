/** @file Disk space that a run asks for: that of the file it will write, and on a resumed run nothing that is there already. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { WorkFolder, workPlace } from '../../src/files/work-folder.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { modelSizeBytes } from '../../src/graph/onnx-file/model-files.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { spaceNeeds } from '../../src/quant/check-room.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { planEmbeddings } from '../../src/quant/plan/plan-embeddings.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { blockName } from '../../src/quant/resume.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import { resolveOptions } from '../../src/quant/terms/resolve-options.ts'
import { replaceUses } from '../helpers/replace-uses.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { toyDecoder } from '../helpers/toy-decoder.ts'

const SEQ_LEN = 12
/** Names and nodes, which estimates leave out. */
const GRAPH_BYTES = 16_000

/** A toy decoder with two layers. @param shared both read the same weights. */
async function saved(shared: boolean): Promise<string> {
  const { graph, model } = toyDecoder()
  if (shared) {
    const first = new Map(graph.initializers.map(value => [value.name, value]))
    const ofSecond = graph.initializers.filter(({ name }) => /layers\.1.*_proj/.test(name))
    expect(ofSecond).toHaveLength(6)
    replaceUses(graph, new Map(ofSecond.map(value => [value, first.get(value.name.replace('layers.1', 'layers.0'))!])))
    graph.initializers = graph.initializers.filter(value => !ofSecond.includes(value))
  }
  const path = join(testFolder(), 'model.onnx')
  await saveModel(model, path)
  return path
}

/** Bytes that a run with these options needs, by what they are for. `prepare` gets its work folder. */
async function needsOf(given: QuantizeOptions, prepare: (work: WorkFolder) => void = () => {}) {
  const options = resolveOptions(given)
  const analysis = await analyze(given.model, SEQ_LEN)
  const outer = planEmbeddings(analysis, options, options.scheme.weights.symmetric)
  const output = { path: given.output!, source: given.model }
  const work = await WorkFolder.open(workPlace(output.path, undefined), {}, true)
  prepare(work)
  const needs = spaceNeeds(analysis, options, outer, work, output, modelSizeBytes(analysis.model))
  work.remove()
  const bytes = Object.fromEntries(needs.map(need => [need.what.replace(/ of .*/, ''), need.bytes]))
  return bytes as Record<'hidden states' | 'quantized blocks' | 'the output', number>
}

test.each([
  ['weights of their own', false],
  ['weights that two linears share', true],
])('%s: estimate, room and file agree', async (_, shared) => {
  const model = await saved(shared)
  const options = { model, scheme: 'w4a16', output: join(testFolder(), 'q.onnx'), lwc: false, let: false } as const
  const needs = await needsOf(options)
  const { estimates } = await inspectModel({ model })
  expect(estimates.map(({ sizeBytes }) => sizeBytes)).toContain(needs['the output'])
  const { output } = await quantizeModel({ ...options, seqLen: SEQ_LEN })
  const size = modelSizeBytes(loadModel(output))
  expect(Math.abs(size - needs['the output'])).toBeLessThan(GRAPH_BYTES)
  // The codes of six linears, which a wrong count would be off by.
  expect(needs['quantized blocks'] / 2).toBeGreaterThan(GRAPH_BYTES)
})

test('a resumed run asks only for what is still to be written', async () => {
  const options = { model: await saved(false), scheme: 'w4a16', output: join(testFolder(), 'q.onnx'), samples: 64 }
  const whole = await needsOf(options)
  const states = whole['hidden states'] / 4
  expect(states).toBe(64 * SEQ_LEN * 64 * 4)
  const half = await needsOf(options, work => {
    work.write(blockName(0), {})
    writeFileSync(work.file('float-001.f32'), Buffer.alloc(states, 1))
  })
  expect(half['the output']).toBe(whole['the output'])
  expect(half['quantized blocks']).toBe(whole['quantized blocks'] / 2)
  // Disks give room in pieces.
  expect(half['hidden states']).toBeLessThanOrEqual(whole['hidden states'] - states)
  expect(half['hidden states']).toBeGreaterThan(whole['hidden states'] - 2 * states)
  const rest = await needsOf(options, work => [0, 1].forEach(index => work.write(blockName(index), {})))
  expect([rest['quantized blocks'], rest['hidden states']]).toEqual([0, 0])
})
