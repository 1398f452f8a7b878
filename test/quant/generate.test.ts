/** @file Text behind a prompt: the tokens an argmax over whole runs gives, draws by seed, the ends of a text, and two models side by side. */

import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { feedsFor } from '../../fixtures/generate/perplexity.ts'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'
import { openModel } from '../../src/kernels/session.ts'
import { generateText, partingOf } from '../../src/quant/generate.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { testFolder } from '../helpers/test-folder.ts'

const LLAMA = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const prompt = 'Once upon a time'
const tokenizer = loadTokenizer(LLAMA)
const output = join(tempDir(), 'w2', 'model.onnx')

beforeAll(async () => {
  mkdirSync(resolve(output, '..'))
  await quantizeModel({ model: LLAMA, output, scheme: 'w2a16', lwc: false })
})

/** The likeliest tokens, each by a run over all before it, without a cache. */
async function greedy(path: string, count: number): Promise<number[]> {
  const session = await openModel(path, { threads: 1 })
  const tokens = tokenizer.encode(prompt)
  const start = tokens.length
  while (tokens.length < start + count) {
    const { logits } = await session.run(feedsFor([tokens]), ['logits'])
    const [, positions, vocabulary] = logits!.dims as [number, number, number]
    const bytes = logits!.data as Uint8Array
    const all = Array.from(new Float32Array(bytes.buffer, bytes.byteOffset, positions * vocabulary))
    const row = all.slice(-vocabulary)
    tokens.push(row.indexOf(Math.max(...row)))
  }
  await session.release()
  return tokens.slice(start)
}

test('greedy by default: the same tokens as runs without a cache, streamed piece by piece', async () => {
  let streamed = ''
  const report = await generateText(
    { threads: 1, model: LLAMA, prompt, maxTokens: 24 },
    { onEvent: event => (streamed += event.type === 'text' ? event.text : '') },
  )
  const tokens = await greedy(join(LLAMA, 'model.onnx'), 24)
  expect(report).toMatchObject({
    model: join(LLAMA, 'model.onnx'),
    prompt,
    promptTokens: tokenizer.encode(prompt),
    tokens,
    text: tokenizer.decode(tokens),
    stopped: 'maxTokens',
    cached: true,
  })
  expect(streamed).toBe(report.text)
  expect(report.text).toMatch(/[a-z]{3}/)
  expect(report.tokensPerSecond).toBeGreaterThan(0)
})

test('drawn: the seed decides', async () => {
  const write = async (seed: number) =>
    (await generateText({ threads: 1, model: LLAMA, prompt, maxTokens: 16, temperature: 1.5, seed })).tokens
  const first = await write(1)
  expect(await write(1)).toEqual(first)
  expect(await write(2)).not.toEqual(first)
  const { tokens } = await generateText({ threads: 1, model: LLAMA, prompt, maxTokens: 8, topK: 1 })
  expect(tokens).toEqual(await greedy(join(LLAMA, 'model.onnx'), 8))
})

describe('the end of a text', () => {
  function withConfig(name: string, json: object): string {
    const path = testFolder()
    cpSync(LLAMA, path, { recursive: true })
    writeFileSync(join(path, name), JSON.stringify(json))
    return path
  }

  test('an end-of-sequence token of generation_config.json, which is not written', async () => {
    const tokens = await greedy(join(LLAMA, 'model.onnx'), 12)
    // Where it comes for the first time.
    const at = tokens.findIndex((token, i) => i > 2 && tokens.indexOf(token) === i)
    const model = withConfig('generation_config.json', { eos_token_id: [300, tokens[at]] })
    const report = await generateText({ threads: 1, model, prompt, maxTokens: 12 })
    expect(report).toMatchObject({ tokens: tokens.slice(0, at), stopped: 'end' })
    const first = withConfig('generation_config.json', { eos_token_id: tokens[0] })
    const none = await generateText({ threads: 1, model: first, prompt, maxTokens: 12 })
    expect(none).toMatchObject({ tokens: [], text: '', stopped: 'end', tokensPerSecond: NaN })
  })

  test('the last position of the model', async () => {
    const long = prompt.repeat(60)
    const count = tokenizer.encode(long).length
    const model = withConfig('config.json', { max_position_embeddings: count + 2 })
    const report = await generateText({ threads: 1, model, prompt: long, maxTokens: 50 })
    expect(report).toMatchObject({ stopped: 'positions' })
    expect(report.tokens).toHaveLength(3)
    const short = withConfig('config.json', { max_position_embeddings: count - 1 })
    await expect(generateText({ threads: 1, model: short, prompt: long })).rejects.toMatchObject({ code: 'E_SEQ_LEN' })
  })

  test('an empty prompt starts from the begin-of-text token', async () => {
    const report = await generateText({ threads: 1, model: LLAMA, prompt: '', maxTokens: 2 })
    expect(report.promptTokens).toEqual([tokenizer.bosTokenId])
  })
})

test('two models: texts of both, and the first token at which they part', async () => {
  const report = await generateText({
    threads: 1,
    model: LLAMA,
    compare: output,
    prompt,
    maxTokens: 24,
    tokenizer: LLAMA,
  })
  const [a, b] = [await greedy(join(LLAMA, 'model.onnx'), 24), await greedy(output, 24)]
  expect([report.tokens, report.compare!.tokens]).toEqual([a, b])
  const index = a.findIndex((token, i) => token !== b[i])
  expect(index).toBeGreaterThanOrEqual(0)
  expect(report.parting).toEqual({
    index,
    tokens: [a[index], b[index]],
    texts: [tokenizer.decode([a[index]!]), tokenizer.decode([b[index]!])],
  })
  const same = await generateText({ threads: 1, model: LLAMA, compare: LLAMA, prompt, maxTokens: 4 })
  expect(same.parting).toBeUndefined()
})

test('texts part where one ends', () => {
  const letters = { decode: (ids: readonly number[]) => ids.map(id => 'abc'[id]).join('') }
  expect(partingOf([0, 1], [0, 1, 2], letters)).toEqual({ index: 2, tokens: [null, 2], texts: [null, 'c'] })
  expect(partingOf([0], [], letters)).toEqual({ index: 0, tokens: [0, null], texts: ['a', null] })
  expect(partingOf([0, 1], [0, 1], letters)).toBeUndefined()
})

test('an abort ends it between two tokens', async () => {
  const controller = new AbortController()
  const pieces: string[] = []
  const onEvent = (event: { readonly type: string }) => {
    if (event.type === 'text' && pieces.push('') === 3) controller.abort()
  }
  await expect(
    generateText({ threads: 1, model: LLAMA, prompt, maxTokens: 50 }, { onEvent, signal: controller.signal }),
  ).rejects.toMatchObject({ name: 'AbortError' })
  expect(pieces).toHaveLength(3)
})
