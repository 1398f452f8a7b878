/** @file Learning beats rounding where it should, end to end on a trained model. bench/accuracy.js has the whole table. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { evaluateModel } from '../../src/quant/evaluate.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'

describe('perplexity on the first 40 evaluation windows', needsShared, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-accuracy-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** Perplexity of a wiki-llama file quantized with a twentieth of the paper's steps, larger ones. */
  async function perplexityOf(model: string, scheme: string, lwc: boolean, samples = 24): Promise<number> {
    const { output } = await quantizeModel({
      check: false,
      model: join(sharedDir!, 'models/wiki-llama', model),
      output: join(folder, `${model}-${scheme}-${lwc}`),
      scheme: parseScheme(scheme),
      lwc,
      calib: join(sharedDir!, 'golden/calib_ids.npy'),
      ...{ samples, seqLen: 256, epochs: 4, seed: 0, learningRate: 1e-1, schedule: 'cosine', accuracyLevel: 0 },
    })
    const text = join(sharedDir!, 'golden/eval_ids.npy')
    return (await evaluateModel({ model: output, text, seqLen: 256, windows: 40 })).perplexity
  }

  test('W2A16 in groups of 64: learned is far better than rounded', async () => {
    const rounded = await perplexityOf('optimum-nopast', 'w2a16g64', false)
    const learned = await perplexityOf('optimum-nopast', 'w2a16g64', true)
    expect(learned).toBeLessThan(0.93 * rounded)
  })

  test('one model, three exporters: the same result', async () => {
    const perplexities = [
      await perplexityOf('optimum-past', 'w3a16g64', true, 6),
      await perplexityOf('optimum-nopast', 'w3a16g64', true, 6),
      await perplexityOf('genai-fp32', 'w3a16g64', true, 6),
    ]
    for (const perplexity of perplexities) expect(perplexity / perplexities[0]!).toBeCloseTo(1, 2)
  })
})
