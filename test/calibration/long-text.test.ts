/** @file Texts too long to be tokenized whole: samples come from all over them, and little of them is read. */

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadSamples, loadTokens } from '../../src/calibration/dataset.ts'
import { loadTokenizer, type Tokenizer } from '../../src/calibration/tokenizer.ts'
import { tempDir } from '../helpers/temp-dir.ts'

const MIB = 2 ** 20
const folder = tempDir()

/** A file of `sizeBytes` or some more, with numbered pieces. */
function long(name: string, sizeBytes: number, piece: (index: number) => string): string {
  const path = join(folder, name)
  writeFileSync(path, '')
  const perWrite = 5000
  for (let first = 0, written = 0; written < sizeBytes; first += perWrite) {
    const text = Array.from({ length: perWrite }, (_, i) => piece(first + i)).join('')
    appendFileSync(path, text)
    written += Buffer.byteLength(text)
  }
  return path
}

/** One token per UTF-16 unit; `encoded` counts them. */
function characters(): { tokenizer: () => Tokenizer; encoded: () => number } {
  let encoded = 0
  const tokenizer = {
    encode: (text: string) => {
      encoded += text.length
      return Array.from({ length: text.length }, (_, i) => text.charCodeAt(i))
    },
    decode: (ids: readonly number[]) => String.fromCharCode(...ids),
    bosTokenId: undefined,
    eosTokenId: undefined,
  }
  return { tokenizer: () => tokenizer, encoded: () => encoded }
}

const asText = (tokens: BigInt64Array) => String.fromCharCode(...Array.from(tokens, Number))
const options = { samples: 32, seqLen: 100, seed: 7 }
const textsOf = (path: string, given: Partial<typeof options> = {}) => {
  const { samples, seqLen, ...rest } = { ...options, ...given }
  const { tokens } = loadSamples(path, characters().tokenizer, { samples, seqLen, ...rest })
  return Array.from({ length: samples }, (_, i) => asText(tokens.subarray(i * seqLen, (i + 1) * seqLen)))
}

const line = (index: number) => `Line ${index} has words, and a Größe.\n`
let lines: string
beforeAll(() => {
  lines = long('lines.txt', 17 * MIB, line)
})

test('samples begin with a line, come from all over the text, and little of it is tokenized', () => {
  const { tokenizer, encoded } = characters()
  const { tokens, samples, seqLen } = loadSamples(lines, tokenizer, options)
  expect([samples, seqLen, tokens.length]).toEqual([32, 100, 3200])
  expect(encoded()).toBeLessThan(32 * 100 * 10)
  const texts = textsOf(lines)
  const numbers = texts.map(text => Number(/^Line (\d+) has words, and a Größe\.\nLine /.exec(text)![1]))
  texts.forEach((text, i) =>
    expect(text).toBe(
      [0, 1, 2, 3]
        .map(k => line(numbers[i]! + k))
        .join('')
        .slice(0, 100),
    ),
  )
  const total = (17 * MIB) / Buffer.byteLength(line(400_000))
  for (let quarter = 0; quarter < 4; quarter++)
    expect(numbers.some(n => n >= (total * quarter) / 4 && n < (total * (quarter + 1)) / 4)).toBe(true)
})

test('the seed decides, and nothing else', () => {
  expect(textsOf(lines)).toEqual(textsOf(lines))
  expect(textsOf(lines, { seed: 8 })).not.toEqual(textsOf(lines))
  expect(textsOf(lines, { samples: 4 })).toEqual(textsOf(lines).slice(0, 4))
})

test('a token outside the vocabulary is named', () => {
  const run = () => loadSamples(lines, characters().tokenizer, { ...options, vocabSize: 128 })
  expect(run).toThrow(/lines\.txt: token 2\d\d is outside the model's vocabulary of 128/)
})

test('texts above 64 MiB are read all the same; wanted whole they are refused', () => {
  const path = long('large.md', 65 * MIB, index => `${index} ${'many words in a line '.repeat(10)}\n`)
  for (const text of textsOf(path)) expect(text).toMatch(/^\d+ many words in a line many/)
  expect(asText(loadTokens(path, characters().tokenizer, 30).tokens)).toBe('0 many words in a line many wo')
  expect(() => loadTokens(path, characters().tokenizer)).toThrow(
    expect.objectContaining({ code: 'E_FILE_NOT_FOUND', hint: expect.stringContaining('`windows: N`') as string }),
  )
})

test('without lines a sample begins with a word, without words with a character', () => {
  const words = long('words.txt', 17 * MIB, index => `w${index} `)
  for (const text of textsOf(words)) expect(text).toMatch(/^w\d+ w\d+ /)
  const none = long('none.txt', 17 * MIB, () => '漢字𝒙')
  for (const text of textsOf(none)) expect(text.slice(0, 8)).toMatch(/^(漢字𝒙)?(字𝒙|𝒙)?漢/u)
})

test('a place too near to the end is moved, and so is one before lines that are very long', () => {
  const path = join(folder, 'end.txt')
  writeFileSync(path, `${'a'.repeat(16 * MIB + 1000)}\n${'b'.repeat(500)}`)
  const texts = textsOf(path, { samples: 8, seqLen: 2000 })
  for (const text of texts) expect(text).toMatch(/^a*\n?b*$/)
})

describe('.jsonl', () => {
  test('texts are joined as in short files, from whole lines', () => {
    const path = long(
      'texts.jsonl',
      17 * MIB,
      index => `{"id": ${index}, "text": "Text ${index} is \\u00e4 text."}\r\n`,
    )
    for (const text of textsOf(path)) expect(text).toMatch(/^(Text \d+ is ä text\.\n\n){3,}/)
    expect(asText(loadTokens(path, characters().tokenizer, 40).tokens)).toBe(
      'Text 0 is ä text.\n\nText 1 is ä text.\n\nTe',
    )
  })

  test('rows of ids are taken as they come, however many', () => {
    const path = long('rows.jsonl', 17 * MIB, index => `[${index}, ${'100000000000000, '.repeat(150)}2]\n`)
    const { tokens } = loadSamples(path, () => expect.unreachable(), { samples: 3, seqLen: 4, seed: 3 })
    expect(Array.from(tokens, Number)).toEqual([0, 1, 2].flatMap(index => [index, 1e14, 1e14, 1e14]))
  })

  test('a bad line is named by its place', () => {
    const path = long('bad.jsonl', 17 * MIB, index => `{"text": "fine ${index}"}\n`)
    appendFileSync(path, `{"word": "${'x'.repeat(MIB)}"}\n`)
    const run = () => textsOf(path, { samples: 400 })
    expect(run).toThrow(/bad\.jsonl: after byte \d+, line \d+ has neither text nor token ids/)
  })
})

test('a text that is not UTF-8, and one with too few tokens', () => {
  const latin = join(folder, 'latin.txt')
  writeFileSync(latin, Buffer.alloc(17 * MIB, 'Gr\xf6\xdfe\n', 'latin1'))
  expect(() => textsOf(latin)).toThrow('latin.txt is not UTF-8 text')
  const one = { ...characters().tokenizer(), encode: () => [1] }
  expect(() => loadSamples(lines, () => one, { samples: 1, seqLen: 2, seed: 0 })).toThrow(
    /lines\.txt: 16\.8 MB from byte \d+ on have 1 tokens, but one sample needs 2/,
  )
  expect(() => loadTokens(lines, () => one, 2).tokens).not.toThrow() // all of it was read
})

test('the first tokens of a long text are those of the whole', () => {
  const llama = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
  const text = readFileSync(join(llama, 'eval.txt'), 'utf8')
  const [short, path] = [join(folder, 'short.txt'), join(folder, 'begin.txt')]
  writeFileSync(short, text)
  writeFileSync(path, text.repeat(Math.ceil((17 * MIB) / text.length)))
  const whole = loadTokens(short, () => loadTokenizer(llama)).tokens
  expect(loadTokens(path, () => loadTokenizer(llama), 5000).tokens).toEqual(whole.subarray(0, 5000))
})

test('texts up to 16 MiB are tokenized whole', () => {
  const path = join(folder, 'whole.txt')
  writeFileSync(path, readFileSync(lines).subarray(0, 16 * MIB - 1))
  const encoded: number[] = []
  const encode = (text: string) => {
    encoded.push(text.length)
    return Array.from({ length: 200 }, (_, i) => i)
  }
  loadSamples(path, () => ({ ...characters().tokenizer(), encode }), options)
  expect(encoded).toEqual([readFileSync(path, 'utf8').length])
})
