/** @file Files become tokens, tokens become samples and windows; bad lines and short data are named. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { calibrationSamples, evaluationWindows, loadTokens, type TokenSource } from '../../src/calibration/dataset.ts'
import type { Tokenizer } from '../../src/calibration/tokenizer.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { writeNpy } from '../helpers/write-npy.ts'

/** One token per UTF-16 unit. */
const characters = (): Tokenizer => ({
  encode: text => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
  decode: ids => String.fromCharCode(...ids),
  bosTokenId: undefined,
  eosTokenId: undefined,
})

const unused = (): Tokenizer => {
  throw new Error('no tokenizer is needed for ids')
}

function fileOf(name: string, content: string | Uint8Array): string {
  const path = join(testFolder(), name)
  writeFileSync(path, content)
  return path
}

const numbers = (tokens: BigInt64Array) => Array.from(tokens, Number)
const asText = (tokens: BigInt64Array) => String.fromCharCode(...numbers(tokens))

test.each(['a.txt', 'a.md', 'A.TXT'])('%s is encoded as a whole', name => {
  const source = loadTokens(fileOf(name, 'Grüße\n\nzwei'), characters)
  expect(asText(source.tokens)).toBe('Grüße\n\nzwei')
  expect(source.dims).toEqual([11])
})

test('texts of a .jsonl file are joined by a blank line; empty lines do not count', () => {
  const source = loadTokens(fileOf('a.jsonl', '{"text": "one", "id": 1}\n\n"two"\r\n'), characters)
  expect(asText(source.tokens)).toBe('one\n\ntwo')
})

test('ids of a .jsonl file: rows where lengths agree, a stream where not', () => {
  const rows = loadTokens(fileOf('a.jsonl', '[1, 2]\n{"input_ids": [3, 4]}\n[5, 6]'), unused)
  expect([rows.dims, numbers(rows.tokens)]).toEqual([
    [3, 2],
    [1, 2, 3, 4, 5, 6],
  ])
  const stream = loadTokens(fileOf('a.jsonl', '[1, 2]\n[3]'), unused)
  expect([stream.dims, numbers(stream.tokens)]).toEqual([[3], [1, 2, 3]])
})

test.each([
  ['"fine"\n{"text": ', 'line 2 is not JSON'],
  ['"fine"\n\n{"words": "x"}', 'line 3 has neither text nor token ids'],
  ['[1, 2.5]', 'line 1 has 2.5 among its token ids'],
  ['[1]\n[-1]', 'line 2 has -1 among'],
  ['["1"]', 'line 1 has "1" among'],
  ['[1]\n"text"', 'line 2 has text, earlier lines token ids'],
  ['"text"\n[1]', 'line 2 has token ids, earlier lines text'],
  ['null', 'line 1 has neither'],
])('bad lines are named: %j', (content, message) => {
  const path = fileOf('bad.jsonl', content)
  expect(() => loadTokens(path, characters)).toThrow(`${path}: ${message}`)
  expect(() => loadTokens(path, characters)).toThrow(expect.objectContaining({ code: 'E_CALIBRATION' }))
})

test('ids of .npy files, of any integer type', () => {
  const path = join(testFolder(), 'ids.npy')
  writeNpy(path, { dtype: 'uint16', dims: [2, 2], data: Uint16Array.of(1, 2, 3, 65535) })
  const source = loadTokens(path, unused)
  expect([source.dims, numbers(source.tokens)]).toEqual([
    [2, 2],
    [1, 2, 3, 65535],
  ])
})

test('refuses .npy files that are not token ids', () => {
  const path = join(testFolder(), 'ids.npy')
  const refusal = (message: string) => {
    expect(() => loadTokens(path, unused)).toThrow(expect.objectContaining({ code: 'E_CALIBRATION' }))
    expect(() => loadTokens(path, unused)).toThrow(message)
  }
  writeNpy(path, { dtype: 'float32', dims: [1], data: Float32Array.of(1) })
  refusal('holds [1] of float32, not token ids')
  writeNpy(path, { dtype: 'int32', dims: [1, 1, 1], data: Int32Array.of(1) })
  refusal('[1, 1, 1]')
  writeNpy(path, { dtype: 'int32', dims: [3], data: Int32Array.of(1, 2, -100) })
  refusal('token -100 at position 2')
})

test('refuses files that are missing, unknown, or not UTF-8', () => {
  expect(() => loadTokens('/nowhere/a.txt', characters)).toThrow(expect.objectContaining({ code: 'E_FILE_NOT_FOUND' }))
  expect(() => loadTokens(fileOf('a.parquet', ''), characters)).toThrow('".parquet"')
  expect(() => loadTokens(fileOf('a.txt', Uint8Array.of(0xff, 0xfe, 0)), characters)).toThrow('not UTF-8')
})

const stream = (length: number): TokenSource => ({
  path: 'stream',
  tokens: BigInt64Array.from({ length }, (_, i) => BigInt(i)),
  dims: [length],
})

test('windows of a stream start anywhere and end inside it', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 30 }), fc.nat(30), fc.integer(), (seqLen, extra, seed) => {
      const source = stream(seqLen + extra)
      const { tokens } = calibrationSamples(source, { samples: 5, seqLen, seed })
      for (let i = 0; i < 5; i++) {
        const window = numbers(tokens.subarray(i * seqLen, (i + 1) * seqLen))
        expect(window).toEqual(Array.from({ length: seqLen }, (_, j) => window[0]! + j))
        expect(window.at(-1)).toBeLessThan(seqLen + extra)
      }
    }),
  )
  const starts = new Set(
    calibrationSamples(stream(12), { samples: 100, seqLen: 10, seed: 1 }).tokens.filter((_, i) => i % 10 === 0),
  )
  expect([...starts].sort()).toEqual([0n, 1n, 2n]) // the first and the last possible start included
})

test('the seed alone decides', () => {
  const draw = (seed: number) =>
    numbers(calibrationSamples(stream(1000), { samples: 4, seqLen: 10, seed }).tokens).join()
  expect(draw(1)).toBe(draw(1))
  expect(draw(1)).not.toBe(draw(2))
})

test('rows are taken in their own order, whatever the seed', () => {
  const source: TokenSource = { ...stream(12), dims: [3, 4] }
  const { tokens } = calibrationSamples(source, { samples: 2, seqLen: 3, seed: 9 })
  expect(numbers(tokens)).toEqual([0, 1, 2, 4, 5, 6])
})

test('too few tokens: how many there are, how many are needed, and the way out', () => {
  const rows: TokenSource = { ...stream(12), dims: [3, 4] }
  const thrown = (source: TokenSource, samples: number, seqLen: number) => {
    try {
      calibrationSamples(source, { samples, seqLen, seed: 0 })
    } catch (error) {
      return error
    }
  }
  expect(thrown(rows, 4, 4)).toMatchObject({
    code: 'E_CALIBRATION',
    message: 'stream has 3 samples of 4 tokens, but 4 of 4 are needed',
    hint: 'Use `samples: 3` `seqLen: 4`, or give more data.',
  })
  expect(thrown(rows, 1, 5)).toMatchObject({ hint: 'Use `samples: 1` `seqLen: 4`, or give more data.' })
  expect(thrown(stream(9), 1, 10)).toMatchObject({
    message: 'stream has 9 tokens, but one sample needs 10',
    hint: 'Give a longer text: some thousand words.',
  })
  expect(thrown(stream(70), 1, 80)).toMatchObject({ hint: 'Give a longer text, or use `seqLen: 70`.' })
})

test('a token outside the vocabulary is named', () => {
  const options = { samples: 1, seqLen: 10, seed: 0 }
  expect(() => calibrationSamples(stream(10), { ...options, vocabSize: 9 })).toThrow('token 9 is outside')
  expect(calibrationSamples(stream(10), { ...options, vocabSize: 10 }).tokens.length).toBe(10)
})

test('evaluation windows follow each other and leave the rest out', () => {
  expect(evaluationWindows(stream(7).tokens, 3).map(numbers)).toEqual([
    [0, 1, 2],
    [3, 4, 5],
  ])
  expect(() => evaluationWindows(stream(2).tokens, 3)).toThrow(expect.objectContaining({ code: 'E_CALIBRATION' }))
})
