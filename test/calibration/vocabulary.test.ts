/** @file Vocabularies that differ are refused by name; files that differ in other things are not. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { checkSameTokens, checkStatedWidths } from '../../src/calibration/vocabulary.ts'
import { testFolder } from '../helpers/test-folder.ts'

const write = (json: unknown): string => {
  const path = join(testFolder(), 'tokenizer.json')
  writeFileSync(path, JSON.stringify(json))
  return path
}
const bpe = (vocab: object, more: object = {}) => ({ model: { type: 'BPE', vocab, merges: [] }, ...more })

const refused = (message: RegExp): unknown =>
  expect.objectContaining({ code: 'E_VOCABULARY', message: expect.stringMatching(message) as string })

test.each<[string, unknown, unknown]>([
  ['the same', bpe({ a: 0, b: 1 }), bpe({ a: 0, b: 1 })],
  ['another order and other merges', bpe({ a: 0, b: 1 }), { model: { vocab: { b: 1, a: 0 }, merges: [['a', 'b']] } }],
  ['a token that is an added one', bpe({ a: 0, b: 1 }), bpe({ a: 0 }, { added_tokens: [{ id: 1, content: 'b' }] })],
  [
    'Unigram',
    {
      model: {
        vocab: [
          ['a', -1],
          ['b', -2],
        ],
      },
    },
    {
      model: {
        vocab: [
          ['a', -3],
          ['b', -4],
        ],
      },
    },
  ],
  [
    'Unigram and BPE',
    {
      model: {
        vocab: [
          ['a', -1],
          ['b', -2],
        ],
      },
    },
    bpe({ a: 0, b: 1 }),
  ],
  ['a kind without a list', bpe({ a: 0 }), { model: {} }],
])('%s', (_, a, b) => {
  expect(() => checkSameTokens([write(a), write(b)])).not.toThrow()
})

test.each<[string, unknown, unknown, RegExp]>([
  [
    'another id',
    bpe({ a: 0, b: 1 }),
    bpe({ a: 1, b: 0 }),
    /^the vocabularies differ: token "a" is 0 in \S+ and 1 in \S+$/,
  ],
  ['a token less', bpe({ a: 0, b: 1 }), bpe({ a: 0 }), /token "b" is 1 in \S+ and absent in \S+$/],
  ['a token more', bpe({ a: 0 }), bpe({ a: 0, b: 1 }), /token "b" is absent in \S+ and 1 in \S+$/],
  ['an added token', bpe({ a: 0 }), bpe({ a: 0 }, { added_tokens: [{ id: 0, content: 'x' }] }), /token "x"/],
])('%s is refused', (_, a, b, message) => {
  expect(() => checkSameTokens([write(a), write(a), write(b)])).toThrow(refused(message) as Error)
})

test('widths of logits', () => {
  const models = [{ model: 'a.onnx', vocabulary: 320 }, { model: 'b.onnx' }, { model: 'c.onnx', vocabulary: 2048 }]
  expect(() => checkStatedWidths(models.slice(0, 2))).not.toThrow()
  expect(() => checkStatedWidths(models)).toThrow(
    refused(/^the vocabularies differ: a\.onnx gives logits for 320 tokens, c\.onnx for 2048$/) as Error,
  )
})
