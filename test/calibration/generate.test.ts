/** @file Text that a model writes: its own distribution, the same with and without cache, whatever the batch. */

import { expect, test } from 'vitest'
import { generateTokens } from '../../src/calibration/generate.ts'
import { toyDecoder, toyLogits, VOCABULARY } from './toy-decoder.ts'

const options = { samples: 5, seqLen: 6, seed: 1, bosTokenId: 2 }
const numbers = (tokens: BigInt64Array) => Array.from(tokens, Number)

test('the same text with and without cache, in any batch', async () => {
  const decoder = toyDecoder({ cached: true })
  const reference = await generateTokens(decoder, decoder.io, options)
  expect(reference).toMatchObject({ samples: 5, seqLen: 6 })
  expect(reference.tokens.length).toBe(30)
  for (const cached of [true, false]) {
    for (const batch of [1, 2, 5, undefined]) {
      const other = toyDecoder({ cached })
      expect(await generateTokens(other, other.io, { ...options, batch })).toEqual(reference)
    }
  }
})

test('with a cache every run is one token wide, without it the whole prefix', async () => {
  const cached = toyDecoder({ cached: true })
  await generateTokens(cached, cached.io, { ...options, batch: 3 })
  const widths = (batch: number, each: (t: number) => number) => [1, 2, 3, 4, 5].map(t => [batch, each(t)])
  expect(cached.runs).toEqual([...widths(3, () => 1), ...widths(2, () => 1)])
  const plain = toyDecoder({ cached: false })
  await generateTokens(plain, plain.io, { ...options, batch: 3 })
  expect(plain.runs).toEqual([...widths(3, t => t), ...widths(2, t => t)])
})

test('every token is drawn from the distribution the model gives', async () => {
  const decoder = toyDecoder({ cached: false })
  const { tokens } = await generateTokens(decoder, decoder.io, { ...options, samples: 20_000, seqLen: 2 })
  const counts = new Array<number>(VOCABULARY).fill(0)
  numbers(tokens).forEach((token, i) => {
    if (i % 2 === 0) expect(token).toBe(2)
    else counts[token]!++
  })
  const weights = toyLogits([2]).map(Math.exp)
  const sum = weights.reduce((a, b) => a + b)
  counts.forEach((count, i) => expect(Math.abs(count / 20_000 - weights[i]! / sum)).toBeLessThan(0.015))
})

test('the seed decides; samples differ from each other', async () => {
  const decoder = toyDecoder({ cached: true })
  const write = async (seed: number) =>
    numbers((await generateTokens(decoder, decoder.io, { ...options, seed, seqLen: 20 })).tokens)
  const first = await write(1)
  expect(await write(1)).toEqual(first)
  expect(await write(2)).not.toEqual(first)
  expect(new Set(Array.from({ length: 5 }, (_, i) => first.slice(i * 20, i * 20 + 20).join())).size).toBe(5)
})

test('top-k 1 is greedy', async () => {
  const decoder = toyDecoder({ cached: true })
  const { tokens } = await generateTokens(decoder, decoder.io, { ...options, samples: 1, topK: 1 })
  const greedy = [2]
  while (greedy.length < 6) {
    const logits = toyLogits(greedy)
    greedy.push(logits.indexOf(Math.max(...logits)))
  }
  expect(numbers(tokens)).toEqual(greedy)
})

test('a sample is a first token and pieces that know nothing of each other', async () => {
  const decoder = toyDecoder({ cached: true })
  const piece = [2]
  while (piece.length < 4) {
    const logits = toyLogits(piece)
    piece.push(logits.indexOf(Math.max(...logits)))
  }
  // Greedy pieces after the same first token are alike: 8 tokens in pieces of 2, 3 and 3.
  const { tokens } = await generateTokens(decoder, decoder.io, {
    ...options,
    samples: 2,
    seqLen: 9,
    piece: 3,
    topK: 1,
  })
  const written = piece.slice(1)
  const sample = [2, ...written.slice(0, 2), ...written, ...written]
  expect(numbers(tokens)).toEqual([...sample, ...sample])
  const drawn = await generateTokens(decoder, decoder.io, { ...options, samples: 1, seqLen: 61, piece: 20 })
  const pieces = [1, 21, 41].map(start =>
    numbers(drawn.tokens)
      .slice(start, start + 20)
      .join(),
  )
  expect(new Set(pieces).size).toBe(3)
})

test.each([true, false])('no token is computed that is not used (cache: %s)', async cached => {
  const decoder = toyDecoder({ cached })
  await generateTokens(decoder, decoder.io, { ...options, samples: 3, seqLen: 11, piece: 4 })
  // 10 tokens of each sample in pieces of 3, 3 and 4.
  const steps = (count: number, length: number) => Array.from({ length }, (_, t) => [count, cached ? 1 : t + 1])
  expect(decoder.runs).toEqual([...steps(6, 3), ...steps(3, 4)])
})

test('64 pieces at once, of all samples; fewer where memory asks for it', async () => {
  const decoder = toyDecoder({ cached: true })
  await generateTokens(decoder, decoder.io, { ...options, samples: 25, seqLen: 13, piece: 4 })
  expect(decoder.runs.map(([batch]) => batch)).toEqual([...Array(4).fill(64), ...Array(4).fill(11)])
  const large = toyDecoder({ cached: true })
  // 64 MiB of logits for each sequence, for four of them.
  await generateTokens(large, { ...large.io, vocabSize: 2 ** 24 - 1000 }, { ...options, samples: 8, seqLen: 2 })
  expect(large.runs).toEqual([
    [4, 1],
    [4, 1],
  ])
})

test('a sample does not depend on how many there are', async () => {
  const decoder = toyDecoder({ cached: true })
  const write = (samples: number) => generateTokens(decoder, decoder.io, { ...options, samples, seqLen: 9, piece: 3 })
  expect((await write(5)).tokens.slice(0, 18)).toEqual((await write(2)).tokens)
})

test('starts from the configured begin of text, or from random tokens', async () => {
  const decoder = toyDecoder({ cached: true })
  const starts = async (bosTokenId: number | undefined) => {
    const io = { ...decoder.io, bosTokenId }
    const { tokens } = await generateTokens(decoder, io, { samples: 60, seqLen: 1, seed: 3 })
    return new Set(numbers(tokens))
  }
  expect(await starts(4)).toEqual(new Set([4]))
  expect(await starts(undefined)).toEqual(new Set([0, 1, 2, 3, 4]))
})

test('progress counts tokens, up to all of them', async () => {
  const decoder = toyDecoder({ cached: true })
  const seen: number[][] = []
  const onProgress = (done: number, total: number) => seen.push([done, total])
  await generateTokens(decoder, decoder.io, { samples: 3, seqLen: 2, seed: 0, batch: 2, onProgress })
  expect(seen).toEqual([
    [2, 3],
    [3, 3],
  ])
})

test('a model that runs single sequences only is run so', async () => {
  const decoder = toyDecoder({ cached: true, maxBatch: 1 })
  const { tokens } = await generateTokens(decoder, decoder.io, options)
  const reference = toyDecoder({ cached: true })
  expect(tokens).toEqual((await generateTokens(reference, reference.io, options)).tokens)
})

test('refuses what the model has no positions or no start for', async () => {
  const decoder = toyDecoder({ cached: true })
  const write = (change: object, more: object = {}) =>
    generateTokens(decoder, { ...decoder.io, ...change }, { ...options, ...more })
  await expect(write({ maxPositions: 5 })).rejects.toMatchObject({
    code: 'E_SEQ_LEN',
    hint: 'Use `seqLen: 5` or less.',
  })
  await expect(write({}, { bosTokenId: 9 })).rejects.toMatchObject({ code: 'E_CALIBRATION' })
  await expect(write({ vocabSize: undefined }, { bosTokenId: undefined })).rejects.toThrow('neither')
})
