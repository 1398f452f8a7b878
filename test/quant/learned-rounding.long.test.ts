/** @file Learned rounding from end to end: it comes nearer than learned clipping, what is trained is what ships, and it can be replayed. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { modelBytes } from '../helpers/model-bytes.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { PLAIN } from '../helpers/method.ts'
import { shipped } from '../helpers/shipped.ts'
import { testFolder } from '../helpers/test-folder.ts'

const MODEL = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const OPTIONS: Omit<QuantizeOptions, 'output'> = {
  ...PLAIN,
  ...{ model: MODEL, calib: join(MODEL, 'calib.txt'), scheme: 'w2a16g32', samples: 8, seqLen: 32, epochs: 4 },
  ...{ learningRate: 5e-2, schedule: 'cosine', seed: 0, threads: 1 },
}

test('blocks are nearer to the float ones than with clipping alone', async () => {
  const lossesWith = async (rounding: 'nearest' | 'learned') => {
    const { blocks } = await quantizeModel({ ...OPTIONS, rounding, output: join(testFolder(), 'q.onnx') })
    return blocks.map(({ learnedLoss }) => learnedLoss!)
  }
  const [nearest, learned] = [await lossesWith('nearest'), await lossesWith('learned')]
  for (const [i, loss] of learned.entries()) expect(loss, `block ${i}`).toBeLessThan(0.9 * nearest[i]!)
})

test.each([
  ['w2a16g32', {}],
  ['w3a16', { symmetric: true }],
  ['w4a4', {}],
])('%s %o: every block of the file gives the trained output', async (text, overrides) => {
  const method = { scheme: parseScheme(text, overrides), rounding: 'learned', epochs: 2, learningRate: 5e-2 } as const
  const { finished, errors } = await shipped(MODEL, testFolder(), method, {}, { tokens: 16, vocabulary: 300 })
  expect(finished.map(({ report }) => report.kept)).toContain('learned')
  for (const [i, error] of errors.entries()) expect(error, `block ${i}`).toBeLessThan(text === 'w4a4' ? 1e-4 : 1e-5)
})

test('saved parameters give the same bytes without learning', async () => {
  const params = join(testFolder(), 'learned.safetensors')
  const [first, second] = [join(testFolder(), 'a.onnx'), join(testFolder(), 'a.onnx')]
  const { blocks } = await quantizeModel({ ...OPTIONS, rounding: 'learned', output: first, saveParams: params })
  expect(blocks.map(({ kept }) => kept)).toContain('learned')
  await quantizeModel({ ...OPTIONS, rounding: 'learned', output: second, params })
  expect(modelBytes(second).equals(modelBytes(first))).toBe(true)
})
