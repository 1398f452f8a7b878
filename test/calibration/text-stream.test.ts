/** @file Pieces of text from tokens: together they are the text, and none ends inside a character. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { TextStream } from '../../src/calibration/text-stream.ts'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'

/** Tokens are bytes. */
const bytes = { decode: (ids: readonly number[]) => Buffer.from(ids).toString('utf8') }

function pieces(stream: TextStream, ids: readonly number[]): string[] {
  return [...ids.map(id => stream.add(id)), stream.end()]
}

test('a character of several tokens comes when it is complete', () => {
  expect(pieces(new TextStream(bytes, [0x41]), [...Buffer.from('b\u00e9\u{1f600}c')])).toEqual([
    'b',
    '',
    '\u00e9',
    '',
    '',
    '',
    '\u{1f600}',
    'c',
    '',
  ])
})

test('half a character at the end is not lost', () => {
  expect(pieces(new TextStream(bytes, []), [0x62, 0xc3])).toEqual(['b', '', '\u{fffd}'])
})

test('a decoder that drops the first space does not drop those of later tokens', () => {
  const words = {
    decode: (ids: readonly number[]) =>
      ids
        .map(id => ` ${'abc'[id]}`)
        .join('')
        .trimStart(),
  }
  expect(pieces(new TextStream(words, [0]), [1, 2])).toEqual([' b', ' c', ''])
})

test('the fixture’s tokens, one by one, are its text', () => {
  const tokenizer = loadTokenizer(join(resolve(import.meta.dirname, '../../fixtures/tiny-llama'), 'tokenizer.json'))
  const text = 'Once upon a time there was a caf\u00e9. \u{1f600} She had seven poems,\n\nand kept five.'
  const ids = tokenizer.encode(text)
  for (const start of [0, 1, 7, ids.length - 1]) {
    const stream = new TextStream(tokenizer, ids.slice(0, start))
    expect(tokenizer.decode(ids.slice(0, start)) + pieces(stream, ids.slice(start)).join('')).toBe(
      tokenizer.decode(ids),
    )
  }
})
