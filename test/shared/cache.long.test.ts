/**
 * @file Quantized files with a cache. A prompt and then one token at a time give what the whole sequence gives at once. A kept
 * cache goes from the float file to the quantized one and back.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { feedsFor, nextPast, type Past } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type Session } from '../../src/kernels/session.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { continued, differenceOfRange } from '../helpers/continued.ts'
import { writeRandomTransformations } from '../helpers/random-transformations.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { modelOf, RUNNING } from './files.ts'

const [PROMPT, STEPS] = [12, 3]

describe('with a cache', needsShared, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-cache-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test.each([
    ['models/wiki-llama/optimum-past', 'w4a16'],
    ['zoo/optimum-qwen3-moe', 'w8a16'],
    ['zoo/genai-gptoss', 'w8a16'],
    ...RUNNING.flatMap(([name, { cache }]) => (cache ? [[name, 'w8a8']] : [])),
  ] as [string, string][])('%s at %s', async (name, scheme) => {
    const { output } = await quantizeModel({
      check: false,
      ...{ model: modelOf(name), output: join(folder, scheme, name), scheme: parseScheme(scheme) },
      ...{ lwc: false, let: false, samples: 1, seqLen: 8, epochs: 0, seed: 0, learningRate: 1, schedule: 'cosine' },
      ...{ accuracyLevel: 0 },
    })
    const session = await openModel(output)
    try {
      const io = describeIo(session, join(sharedDir!, name))
      const tokens = BigInt64Array.from({ length: PROMPT + STEPS }, (_, i) => BigInt((i * 89 + 7) % 251))
      const whole = await session.run(feedsFor(io, tokens, 1, tokens.length), [io.logits.name])
      const all = readFloats(whole[io.logits.name]!)
      const width = all.length / tokens.length
      const fetches = [io.logits.name, ...io.past.map(({ present }) => present!)]
      let past: Past | undefined
      for (let end = PROMPT; end <= tokens.length; end++) {
        const from = past?.length ?? 0
        const feeds = feedsFor(io, tokens.slice(from, end), 1, end - from, past)
        const outputs = await session.run(feeds, fetches)
        past = nextPast(io, outputs, end)
        const last = readFloats(outputs[io.logits.name]!).slice(-width)
        const expected = all.slice((end - 1) * width, end * width)
        const range = Math.max(...expected) - Math.min(...expected)
        const worst = Math.max(...expected.map((value, i) => Math.abs(value - last[i]!)))
        expect(worst / range, `token ${end}`).toBeLessThan(1e-3)
      }
    } finally {
      await session.release()
    }
  })

  test.each(RUNNING.flatMap(([name, { cache }]) => (cache ? [name] : [])))(
    '%s, transformed: the float file goes on from its cache, and it from that of the float file',
    async name => {
      const model = modelOf(name)
      const options: QuantizeOptions = {
        ...{ model, output: join(folder, 'kept', name), scheme: parseScheme('w8a8'), keepCache: true, lwc: false },
        ...{ let: true, samples: 1, seqLen: 8, epochs: 1, seed: 1, learningRate: 1, schedule: 'constant' },
        ...{ accuracyLevel: 0 },
      }
      const params = join(folder, 'random.safetensors')
      await writeRandomTransformations(params, options)
      const { output, blocks } = await quantizeModel({ ...options, params })
      for (const { mappings } of blocks) expect(mappings.length).toBeGreaterThan(0)
      const tokens = BigInt64Array.from({ length: PROMPT + 1 }, (_, i) => BigInt((i * 89 + 7) % 251))
      const [source, result] = [await openModel(model), await openModel(output)]
      try {
        const say = (prompt: Session, step: Session) => continued(prompt, step, tokens, dirname(model))
        const expected = await say(source, source)
        const got = [await say(source, result), await say(result, source)]
        for (const logits of got) expect(differenceOfRange(logits, expected)).toBeLessThan(0.03)
      } finally {
        await source.release()
        await result.release()
      }
    },
  )
})
