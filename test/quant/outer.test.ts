/** @file lm_head and embeddings from end to end: learned clipping is resumed, replayed and left out as that of blocks is; sizes. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { modelBytes } from '../helpers/model-bytes.ts'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel } from '../../src/kernels/session.ts'
import { modelSizeBytes } from '../../src/graph/onnx-file/model-files.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { isLearned } from '../../src/quant/learn/learn-outer.ts'
import { outerGrowth, outputSize } from '../../src/quant/output-size.ts'
import { planEmbeddings } from '../../src/quant/plan/plan-embeddings.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { QuantizeEvent } from '../../src/quant/terms/report.ts'
import { resolveOptions } from '../../src/quant/terms/resolve-options.ts'
import { type EmbeddingBits, parseScheme } from '../../src/quant/terms/scheme.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { PLAIN } from '../helpers/method.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const folder = tempDir()
let count = 0

const OPTIONS: QuantizeOptions = {
  ...PLAIN,
  ...{ model: LLAMA, calib: join(LLAMA, 'calib.txt'), scheme: 'w4a16g32', ignore: ['layers.*'] },
  ...{ samples: 3, seqLen: 32, epochs: 1, threads: 1, lmHead: 4, embedding: 2 },
}

async function quantized(change: Partial<QuantizeOptions> = {}, onEvent?: (event: QuantizeEvent) => void) {
  const out = join(folder, String(count++))
  mkdirSync(out)
  const again = (other: Partial<QuantizeOptions> = {}, listen = onEvent) =>
    quantizeModel({ ...OPTIONS, ...change, ...other, output: join(out, 'q.onnx') }, { onEvent: listen })
  return { out, again }
}

const bytes = (path: string): Buffer => readFileSync(path)

test('learned clipping has the lesser error, and says so; without learning they are rounded', async () => {
  const phases = new Set<string>()
  const { again } = await quantized({}, event => event.type === 'outer' && phases.add(`${event.name} ${event.phase}`))
  const report = await again()
  expect(report.outer.map(({ role }) => role)).toEqual(['lm_head', 'embedding'])
  for (const { roundedLoss, learnedLoss } of report.outer) expect(learnedLoss! / roundedLoss!).toBeLessThan(0.97)
  expect([...phases]).toEqual(['lm_head inputs', 'lm_head clipping', 'embed_tokens clipping'])
  const rounding = await quantized({ lwc: false })
  const rounded = await rounding.again()
  expect(rounded.outer.every(({ learnedLoss }) => learnedLoss === undefined)).toBe(true)
  expect(bytes(rounded.output).equals(bytes(report.output))).toBe(false)
})

/** Logits of one prompt. */
async function logits(path: string, tokens: readonly number[]): Promise<Float32Array> {
  const session = await openModel(path, { threads: 1 })
  try {
    const io = describeIo(session, LLAMA)
    const ids = BigInt64Array.from(tokens, BigInt)
    return readFloats((await session.run(feedsFor(io, ids, 1, tokens.length)))[io.logits.name]!)
  } finally {
    await session.release()
  }
}

test('the loss is the error of the logits on the calibration tokens, and a tenth for the weight itself', async () => {
  const samples = Array.from({ length: 3 }, (_, i) => Array.from({ length: 32 }, (__, t) => (i * 37 + t * 89) % 300))
  const calib = join(folder, 'calib.jsonl')
  writeFileSync(calib, samples.map(sample => JSON.stringify(sample)).join('\n'))
  const change = { calib, lmHead: 2, embedding: 'float' } as const
  const [learned, rounded] = [
    await (await quantized(change)).again(),
    await (await quantized({ ...change, lwc: false })).again(),
  ]
  const error = async (path: string): Promise<number> => {
    let [sum, n] = [0, 0]
    for (const sample of samples) {
      const [want, got] = [await logits(join(LLAMA, 'model.onnx'), sample), await logits(path, sample)]
      want.forEach((x, i) => (sum += (x - got[i]!) ** 2))
      n += want.length
    }
    return sum / n
  }
  const [head] = learned.outer
  const [mostly, least] = [
    head!.roundedLoss! / (await error(rounded.output)),
    head!.learnedLoss! / (await error(learned.output)),
  ]
  for (const ratio of [mostly, least]) {
    expect(ratio).toBeGreaterThan(1)
    expect(ratio).toBeLessThan(1.5)
  }
})

test('what is learned: where it pays, and not without learning', async () => {
  const method = { lwc: true, epochs: 1 }
  const jobs = (bits: EmbeddingBits) =>
    planEmbeddings(analysis, { lmHead: bits, embedding: bits }, false).jobs.map(job => isLearned(job, method))
  const analysis = await analyze(LLAMA, 32)
  expect([jobs(8), jobs(4), jobs(2)]).toEqual([
    [false, false],
    [true, false],
    [true, true],
  ])
  const [job] = planEmbeddings(analysis, { lmHead: 2 }, false).jobs
  expect([isLearned(job!, { lwc: false, epochs: 1 }), isLearned(job!, { lwc: true, epochs: 0 })]).toEqual([
    false,
    false,
  ])
})

test('a run that ended while lm_head was learned, or after it, goes on to the same bytes', async () => {
  const whole = await (await quantized()).again()
  for (const stop of ['lm_head', 'embed_tokens']) {
    const cut = await quantized({}, event => {
      if (event.type === 'outer' && event.name === stop && event.phase === 'clipping') throw new Error('enough')
    })
    await expect(cut.again()).rejects.toThrow('enough')
    const names: string[] = []
    const report = await cut.again({}, event => event.type === 'outer' && names.push(event.name))
    expect(report.notes[0]).toContain('went on from an earlier run')
    expect(names.includes('lm_head')).toBe(stop === 'lm_head')
    expect(bytes(report.output).equals(bytes(whole.output))).toBe(true)
  }
})

test('saved parameters give the same bytes without calibration, and fit no other bits', async () => {
  const saveParams = join(folder, 'learned.safetensors')
  const learned = await (await quantized({ ignore: [], saveParams })).again()
  const replay = await quantized({ ignore: [], params: saveParams, calib: undefined })
  const replayed = await replay.again()
  expect(modelBytes(replayed.output).equals(modelBytes(learned.output))).toBe(true)
  await expect(replay.again({ lmHead: 2 })).rejects.toThrow(
    'its lm_head and embedding is lm_head:w4g32 embed_tokens:w2g32',
  )
})

test.each<[string, Partial<QuantizeOptions>]>([
  ['4 and 2 bits', {}],
  ['8 bits', { lmHead: 8, embedding: 8 }],
  ['symmetric', { lmHead: 4, embedding: 4, symmetric: true }],
  ['lm_head alone', { embedding: 'float' }],
  ['qdq', { format: 'qdq', lmHead: 4, embedding: 4 }],
  ['portable', { scheme: 'w8a8', format: 'portable', lmHead: 4, embedding: 4 }],
  ['nothing', { lmHead: 'float', embedding: 'float' }],
])('the estimated size is that of the file: %s', async (_, change) => {
  const { output } = await (await quantized({ lwc: false, ...change })).again()
  const analysis = await analyze(LLAMA, 32)
  const options = resolveOptions({ ...OPTIONS, ...change })
  const { format, lmHead } = options
  const plan = planEmbeddings(analysis, options, options.scheme.weights.symmetric)
  const source = modelSizeBytes(loadModel(LLAMA))
  const estimate = outputSize(source, [], parseScheme('w4a16g32')) + outerGrowth(plan, { format })
  // Names and nodes are not counted.
  expect(Math.abs(modelSizeBytes(loadModel(output)) - estimate)).toBeLessThan(8000)
  expect((estimate === source) === (lmHead === undefined)).toBe(true)
})
