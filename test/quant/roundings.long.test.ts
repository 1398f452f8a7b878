/** @file Ways of rounding from end to end: each comes nearer than the one before, ships what it computed, can be replayed and resumed. */

import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { modelBytes } from '../helpers/model-bytes.ts'
import { readSafetensors } from '../../src/files/safetensors.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { Method, QuantizeOptions } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { PLAIN } from '../helpers/method.ts'
import { shipped } from '../helpers/shipped.ts'
import { testFolder } from '../helpers/test-folder.ts'

const MODEL = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const OPTIONS: Omit<QuantizeOptions, 'output'> = {
  ...PLAIN,
  ...{ model: MODEL, calib: join(MODEL, 'calib.txt'), scheme: 'w2a16g32', samples: 8, seqLen: 32, epochs: 2 },
  ...{ learningRate: 5e-2, schedule: 'cosine', seed: 0, threads: 1 },
}
const output = (): string => join(testFolder(), 'q.onnx')

test('searched ranges are better than whole ones, and GPTQ is better over them', async () => {
  const losses = async (rounding: 'weighted' | 'gptq') => {
    const { blocks } = await quantizeModel({ ...OPTIONS, rounding, lwc: false, output: output() })
    expect(blocks.map(({ kept }) => kept)).not.toContain('rounded')
    return blocks[0]!
  }
  const [weighted, gptq] = [await losses('weighted'), await losses('gptq')]
  expect(weighted.learnedLoss).toBeLessThan(0.95 * weighted.roundedLoss!)
  // The first block has the same inputs in both runs.
  expect(gptq.roundedLoss).toBe(weighted.roundedLoss)
  expect(gptq.learnedLoss).toBeLessThan(0.9 * weighted.learnedLoss!)
})

test.each<[string, Parameters<typeof parseScheme>[1], Partial<Method>]>([
  ['w2a16g32', {}, { rounding: 'weighted', lwc: false }],
  ['w3a16', { symmetric: true }, { rounding: 'gptq', lwc: false }],
  ['w2a16g32', {}, { rounding: 'gptq', accuracyLevel: 4, let: 'norm' }],
  ['w4a4', {}, { rounding: 'gptq', let: true }],
  ['w4a8', { staticActivations: true }, { rounding: 'gptq', lwc: false }],
])('%s %o %o: every block of the file gives the computed output', async (text, more, given) => {
  const method = { scheme: parseScheme(text, more), epochs: 2, learningRate: 5e-2, ...given }
  const { finished, errors } = await shipped(MODEL, testFolder(), method, {}, { tokens: 16, vocabulary: 300 })
  expect(finished.map(({ report }) => report.kept)).toContain('learned')
  const isFloat = method.scheme.activations === undefined && method.accuracyLevel !== 4
  for (const [i, error] of errors.entries()) expect(error, `block ${i}`).toBeLessThan(isFloat ? 1e-5 : 1e-4)
})

test.each([
  { rounding: 'weighted', lwc: false },
  { rounding: 'gptq', lwc: true },
] as const)('%o: saved parameters give the same bytes, and so does a second run', async given => {
  const params = join(testFolder(), 'learned.safetensors')
  const [first, second, third] = [output(), output(), output()]
  await quantizeModel({ ...OPTIONS, ...given, output: first, saveParams: params })
  await quantizeModel({ ...OPTIONS, ...given, output: second, params })
  expect(modelBytes(second).equals(modelBytes(first))).toBe(true)
  await quantizeModel({ ...OPTIONS, ...given, output: third })
  expect(modelBytes(third).equals(modelBytes(first))).toBe(true)
})

test('a run that was stopped after a block ends in the same bytes', async () => {
  const options = { ...OPTIONS, rounding: 'gptq', lwc: false } as const
  const [whole, resumed] = [output(), output()]
  await quantizeModel({ ...options, output: whole })
  const stop = new AbortController()
  const stopped = quantizeModel(
    { ...options, output: resumed },
    { signal: stop.signal, onEvent: event => void (event.type === 'blockDone' && stop.abort(new Error('stopped'))) },
  )
  await expect(stopped).rejects.toThrow('stopped')
  const { notes } = await quantizeModel({ ...options, output: resumed })
  expect(notes.join()).toContain('had finished 1 of')
  expect(readFileSync(resumed).equals(readFileSync(whole))).toBe(true)
})

test('GPTQ widens searched ranges where its own error is less for it', async () => {
  const ratios = async (rounding: 'weighted' | 'gptq') => {
    const saveParams = join(testFolder(), 'learned.safetensors')
    await quantizeModel({ ...OPTIONS, rounding, lwc: false, output: output(), saveParams })
    const { bytes } = readSafetensors(saveParams).tensors.get('blocks.0.0:layers.0.self_attn.q_proj:max')!
    return new Float32Array(bytes.slice().buffer)
  }
  const [searched, widened] = [await ratios('weighted'), await ratios('gptq')]
  for (const [i, logit] of searched.entries()) expect(widened[i]).toBeGreaterThanOrEqual(logit)
  expect(widened).not.toEqual(searched)
})
