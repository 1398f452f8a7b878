/** @file The KV cache under learned transformations: for one file alone, or for all files of the model. */

import { basename, dirname, join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { openModel, type Session } from '../../src/kernels/session.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { continued, differenceOfRange } from '../helpers/continued.ts'
import { writePairedDecoders, writePromptModel } from '../helpers/paired-decoders.ts'
import { writeRandomTransformations } from '../helpers/random-transformations.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { PLAIN } from '../helpers/method.ts'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama/model.onnx')
const TOKENS = 16
const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 37 + 5) % 300))
/** At w8a8, with or without another file's cache. */
const TOLERANCE = 0.03

/** With transformations drawn at random, so that there are some. */
async function quantize(model: string, given: Partial<QuantizeOptions> = {}) {
  const folder = testFolder()
  const options: QuantizeOptions = {
    ...PLAIN,
    ...{ model, output: join(folder, 'out', basename(model)), scheme: parseScheme('w8a8'), lwc: false, let: true },
    ...{ samples: 1, seqLen: TOKENS, epochs: 1, seed: 1, learningRate: 1, schedule: 'constant' },
    ...{ accuracyLevel: 0, ...given },
  }
  const params = join(folder, 'random.safetensors')
  await writeRandomTransformations(params, options)
  const report = await quantizeModel({ ...options, params })
  // A float lm_head is slower than one of 8 bits.
  const others = (note: string) => !note.includes(params) && !note.startsWith('lm_head stays float')
  return { ...report, notes: report.notes.filter(others) }
}

/** Largest error of the last token when the second file goes on from the first one's cache, of the range; for each pair of files. */
async function errors(...pairs: (readonly [prompt: string, step: string])[]): Promise<number[]> {
  const sessions = new Map<string, Session>()
  for (const path of new Set([FIXTURE, ...pairs.flat()])) sessions.set(path, await openModel(path))
  const say = ([prompt, step]: readonly [string, string]) =>
    continued(sessions.get(prompt)!, sessions.get(step)!, tokens, dirname(FIXTURE))
  try {
    const expected = await say([FIXTURE, FIXTURE])
    const result: number[] = []
    for (const pair of pairs) result.push(differenceOfRange(await say(pair), expected))
    return result
  } finally {
    for (const session of sessions.values()) await session.release()
  }
}

/** Notes about the cache. */
const ofCache = (notes: readonly string[]): string[] => notes.filter(note => note.includes('KV cache'))

const scaledIn = (path: string): string | undefined => loadModel(path).metadata.get('omniquant.scaled_outputs')

describe('the cache of one file', () => {
  test('is for that file alone, which report and file say', async () => {
    const { output, notes, blocks } = await quantize(FIXTURE)
    expect(ofCache(notes)).toEqual([
      expect.stringMatching(
        /^the KV cache is for this file alone: learning has scaled present\.\d\.key and .*keepCache/,
      ),
    ])
    const outputs = blocks.flatMap(({ index }) => [`present.${index}.key`, `present.${index}.value`])
    expect(scaledIn(output)!.split(',').sort()).toEqual(outputs.sort())
    const [alone, ...mixed] = await errors([output, output], [FIXTURE, output], [output, FIXTURE])
    expect(alone).toBeLessThan(TOLERANCE)
    expect(Math.min(...mixed)).toBeGreaterThan(3 * TOLERANCE)
  })

  test('is for all files of the model with keepCache', async () => {
    const { output, notes, blocks } = await quantize(FIXTURE, { keepCache: true })
    for (const { mappings } of blocks)
      expect(mappings).toEqual([
        'input_layernorm -> q_proj, k_proj, v_proj',
        'post_attention_layernorm -> gate_proj, up_proj',
        'up_proj -> down_proj',
      ])
    expect(ofCache(notes)).toEqual([])
    expect(scaledIn(output)).toBeUndefined()
    const all = await errors([output, output], [FIXTURE, output], [output, FIXTURE])
    expect(Math.max(...all)).toBeLessThan(TOLERANCE)
  })

  test('is not scaled, and not spoken of, where nothing is transformed', async () => {
    const { output, notes } = await quantize(FIXTURE, { let: false })
    expect(ofCache(notes)).toEqual([])
    expect(scaledIn(output)).toBeUndefined()
  })
})

describe('a decoder in two files', () => {
  test('keeps its cache: each file goes on from the other, float or quantized', async () => {
    const float = await writePairedDecoders(testFolder())
    const [prompt, step] = [await quantize(float.prompt), await quantize(float.step)]
    expect(ofCache(prompt.notes)).toEqual(['the KV cache keeps its scale: decoder_with_past_model.onnx reads it too'])
    expect(ofCache(step.notes)).toEqual(['the KV cache keeps its scale: decoder_model.onnx reads it too'])
    for (const { blocks } of [prompt, step]) expect(blocks.map(({ mappings }) => mappings.length)).toEqual([3, 3, 3])
    const [unquantized, ...others] = await errors(
      ...[float.prompt, prompt.output].flatMap(first =>
        [float.step, step.output].map(second => [first, second] as const),
      ),
    )
    expect(unquantized).toBeLessThan(1e-5)
    expect(Math.max(...others)).toBeLessThan(TOLERANCE)
  })

  test('keeps it in a file that gives one and takes none, wherever its other half is', async () => {
    const { output, notes } = await quantize(await writePromptModel(join(testFolder(), 'prompt.onnx')))
    expect(ofCache(notes)).toEqual(['the KV cache keeps its scale: nothing in this file reads it again'])
    const [error] = await errors([output, FIXTURE])
    expect(error).toBeLessThan(TOLERANCE)
  })
})
