/** @file The tokenizer beside a model: where it is found, what it encodes, which ids open and close a text. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadTokenizer } from '../../src/calibration/tokenizer.ts'
import { testFolder } from '../helpers/test-folder.ts'

const added = (content: string, id: number) => ({ id, content, special: true, normalized: false })

/** Byte-pair encoding of a, b, space and newline with the one merge a b -> ab; ids in this order. */
const BPE = {
  added_tokens: [added('<s>', 0), added('</s>', 1)],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: 'Fuse' },
  model: {
    type: 'BPE',
    vocab: { '<s>': 0, '</s>': 1, a: 2, b: 3, ab: 4, ' ': 5, '\n': 6 },
    merges: [['a', 'b']],
  },
}

function folderWith(files: Record<string, unknown>): string {
  const folder = testFolder()
  for (const [name, json] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(json))
  return folder
}

test('encodes without special tokens, decodes with them', () => {
  const tokenizer = loadTokenizer(folderWith({ 'tokenizer.json': BPE }))
  expect(tokenizer.encode('abba \n')).toEqual([4, 3, 2, 5, 6])
  expect(tokenizer.encode('ab', { bos: true })).toEqual([0, 4])
  expect(tokenizer.encode('a</s>b')).toEqual([2, 1, 3])
  expect(tokenizer.encode('')).toEqual([])
  expect(tokenizer.decode([0, 4, 3, 5, 99, 2])).toBe('<s>abb a')
  expect(tokenizer.decode([])).toBe('')
})

test('decoding keeps spaces before punctuation, which the library would remove', () => {
  const model = { ...BPE.model, vocab: { ...BPE.model.vocab, '.': 7 } }
  const tokenizer = loadTokenizer(folderWith({ 'tokenizer.json': { ...BPE, model } }))
  expect(tokenizer.decode(tokenizer.encode('ab .'))).toBe('ab .')
})

test('is found beside a model, above its onnx folder, and by its own path', () => {
  const folder = folderWith({ 'tokenizer.json': BPE })
  mkdirSync(join(folder, 'onnx'))
  writeFileSync(join(folder, 'onnx', 'model.onnx'), '')
  for (const path of ['onnx/model.onnx', 'onnx', 'model.onnx', '', 'tokenizer.json']) {
    expect(loadTokenizer(join(folder, path)).encode('ab')).toEqual([4])
  }
})

test.each([
  ['tokenizer_config.json', { 'tokenizer_config.json': { bos_token: '</s>', eos_token: { content: '<s>' } } }, 1, 0],
  ['special_tokens_map.json', { 'special_tokens_map.json': { bos_token: { content: '</s>' } } }, 1, 1],
  ['config.json', { 'config.json': { bos_token_id: 3, eos_token_id: [2, 4] }, 'tokenizer_config.json': {} }, 3, 2],
  [
    'generation_config.json',
    { 'generation_config.json': { bos_token_id: 4 }, 'config.json': { bos_token_id: 3 } },
    4,
    1,
  ],
  ['genai_config.json', { 'genai_config.json': { model: { bos_token_id: 5, eos_token_id: null } } }, 5, 1],
  ['an id outside the vocabulary', { 'config.json': { bos_token_id: 50256, vocab_size: 7 } }, 0, 1],
  ['nothing but the usual spellings', {}, 0, 1],
])('begin and end of text from %s', (_, files, bosTokenId, eosTokenId) => {
  const tokenizer = loadTokenizer(folderWith({ 'tokenizer.json': BPE, ...files }))
  expect(tokenizer).toMatchObject({ bosTokenId, eosTokenId })
})

test('begin of text is unknown when nothing says so', () => {
  const model = { type: 'BPE', vocab: { a: 0 }, merges: [] }
  const tokenizer = loadTokenizer(folderWith({ 'tokenizer.json': { ...BPE, added_tokens: [], model } }))
  expect(tokenizer.bosTokenId).toBeUndefined()
  expect(tokenizer.encode('a', { bos: true })).toEqual([0])
})

test('a long text in one word does not overflow the stack (SentencePiece Unigram)', () => {
  const pieces = ['<unk>', '▁', 'a', 'b', '▁ab'].map((piece, i) => [piece, -i])
  const unigram = {
    ...BPE,
    added_tokens: [],
    decoder: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
    model: { type: 'Unigram', unk_id: 0, vocab: pieces },
  }
  const tokenizer = loadTokenizer(folderWith({ 'tokenizer.json': unigram }))
  const ids = tokenizer.encode('ab '.repeat(130_000))
  expect(ids.length).toBe(130_001)
  expect(ids.slice(0, 3)).toEqual([4, 4, 4])
})

test('without one, says where it looked and what to give instead', () => {
  const folder = testFolder()
  expect(() => loadTokenizer(folder)).toThrow(
    expect.objectContaining({
      code: 'E_TOKENIZER',
      message: expect.stringContaining(folder) as string,
      hint: expect.stringContaining('.npy') as string,
    }),
  )
  writeFileSync(join(folder, 'tokenizer.model'), '')
  expect(() => loadTokenizer(folder)).toThrow('only ' + join(folder, 'tokenizer.model'))
})

test.each([
  ['not JSON', '{', 'cannot read'],
  ['JSON of something else', '[1]', 'cannot use'],
  ['an unknown kind', JSON.stringify({ ...BPE, model: { type: 'Neural' } }), 'Neural'],
  ['no added tokens', JSON.stringify({ ...BPE, added_tokens: undefined }), 'cannot use'],
])('refuses a tokenizer.json with %s', (_, text, message) => {
  const folder = testFolder()
  writeFileSync(join(folder, 'tokenizer.json'), text)
  expect(() => loadTokenizer(folder)).toThrow(expect.objectContaining({ code: 'E_TOKENIZER' }))
  expect(() => loadTokenizer(folder)).toThrow(message)
})
