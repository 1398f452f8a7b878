/** @file Configuration files keep saying the truth of the model file beside them. */

import { describe, expect, test } from 'vitest'
import { hubNameOfFile } from '../../../src/quant/output/hub-names.ts'
import { adaptCompanion, adviceFor, sayTheSame } from '../../../src/quant/output/companions.ts'

type Entry = boolean | number | Record<string, boolean | number> | undefined

/** The entry of transformers.js in a config.json that is written as `after`, from model.onnx or what is given. */
function entryFor(entry: Entry, files: readonly string[], before = 'model.onnx'): unknown {
  const config = {
    model_type: 'x',
    ...(entry !== undefined && { 'transformers.js_config': { dtype: 'q4', use_external_data_format: entry } }),
  }
  const renamed = { before, after: files[0]!, files, hub: hubNameOfFile(files[0]!) }
  const text = adaptCompanion('config.json', JSON.stringify(config), renamed)
  if (text === undefined) return 'as it was'
  const adapted = JSON.parse(text) as typeof config
  expect(adapted.model_type).toBe('x')
  expect(adviceFor('config.json', text, renamed)).toBeUndefined()
  expect(sayTheSame('config.json', JSON.stringify(config), text)).toBe(true)
  return adapted['transformers.js_config']!.use_external_data_format
}

const WITHOUT = ['model_q4.onnx']
const WITH = ['model_q4.onnx', 'model_q4.onnx_data']

describe('use_external_data_format of transformers.js', () => {
  test.each<[string, Entry, readonly string[], unknown]>([
    ['nothing said, no data file', undefined, WITHOUT, 'as it was'],
    ['nothing said, a data file', undefined, WITH, { 'model_q4.onnx': true }],
    ['true for all, a data file', true, WITH, 'as it was'],
    ['true for all, none', true, WITHOUT, { model: true, 'model_q4.onnx': false }],
    ['three for all, one', 3, WITH, { model: 3, 'model_q4.onnx': true }],
    ['false for all, one', false, WITH, { 'model_q4.onnx': true }],
    ['by file, of another', { 'model.onnx': 2 }, WITH, { 'model.onnx': 2, 'model_q4.onnx': true }],
    ['by file, of another, none', { 'model.onnx': 2 }, WITHOUT, 'as it was'],
    ['by stem', { model: 1 }, WITH, 'as it was'],
    ['by stem, none', { model: 1 }, WITHOUT, { model: 1, 'model_q4.onnx': false }],
    ['the file itself, which goes before its stem', { model: 1, 'model_q4.onnx': 0 }, WITHOUT, 'as it was'],
    ['two data files', true, [...WITH, 'model_q4.onnx_data_1'], { model: true, 'model_q4.onnx': 2 }],
  ])('%s', (_, entry, files, expected) => {
    expect(entryFor(entry, files)).toEqual(expected)
  })

  test('the stem is that of every dtype', () => {
    expect(entryFor({ model: 1 }, ['model_q4f16.onnx'], 'model_fp16.onnx')).toEqual({
      model: 1,
      'model_q4f16.onnx': false,
    })
  })
})

describe('kv_cache_dtype of transformers.js', () => {
  const HALF = { q4f16: 'float16' }

  test.each<[string, string, unknown, string | undefined, unknown]>([
    ['float16, nothing said', 'model_q4f16.onnx', undefined, 'float16', HALF],
    ['float32, nothing said', 'model_q4.onnx', undefined, 'float32', undefined],
    ['no cache', 'model_q4.onnx', HALF, undefined, HALF],
    ['float16, said for all', 'model_q4f16.onnx', 'float16', 'float16', 'float16'],
    ['float16, said of another', 'model_int8.onnx', HALF, 'float16', { q4f16: 'float16', int8: 'float16' }],
    ['float32 where it was float16', 'model_q4f16.onnx', HALF, 'float32', { q4f16: 'float32' }],
  ])('%s', (_, after, before, cacheType, expected) => {
    const config = { 'transformers.js_config': { kv_cache_dtype: before, dtype: 'q4' } }
    const renamed = {
      before: 'model.onnx',
      after: `onnx/${after}`,
      files: [after],
      hub: hubNameOfFile(after),
      cacheType,
    }
    const adapted = adaptCompanion('config.json', JSON.stringify(config), renamed) ?? JSON.stringify(config)
    expect((JSON.parse(adapted) as typeof config)['transformers.js_config'].kv_cache_dtype).toEqual(expected)
  })

  test('one type that was said for all stays for the others', () => {
    const config = { 'transformers.js_config': { kv_cache_dtype: 'float16' } }
    const renamed = { before: 'model.onnx', after: 'model_q4.onnx', files: [], hub: hubNameOfFile('model_q4.onnx') }
    const text = adaptCompanion('config.json', JSON.stringify(config), { ...renamed, cacheType: 'float32' })
    const types = (JSON.parse(text!) as typeof config)['transformers.js_config'].kv_cache_dtype
    expect(types).toMatchObject({ fp16: 'float16', q4f16: 'float16', q4: 'float32' })
  })
})

test('outside the layout of transformers.js config.json gets no section', () => {
  const renamed = { before: 'model.onnx', after: 'q.onnx', files: ['q.onnx', 'q.onnx_data'], cacheType: 'float16' }
  expect(adaptCompanion('config.json', '{"model_type": "x"}', renamed)).toBeUndefined()
})

test('genai_config.json names the file as seen from its folder', () => {
  const renamed = { before: 'model.onnx', after: 'onnx/model_q4.onnx', files: ['model_q4.onnx'] }
  const text = '{"decoder": {"filename": "model.onnx"}, "vision": {"filename": "vision.onnx"}}'
  expect(JSON.parse(adaptCompanion('genai_config.json', text, renamed)!)).toEqual({
    decoder: { filename: 'onnx/model_q4.onnx' },
    vision: { filename: 'vision.onnx' },
  })
})

test('other files stay as they are, whatever they hold', () => {
  const renamed = { before: 'model.onnx', after: 'other.onnx', files: ['other.onnx'] }
  expect(adaptCompanion('tokenizer.json', 'not JSON', renamed)).toBeUndefined()
  expect(adaptCompanion('constructor', 'not JSON', renamed)).toBeUndefined()
  expect(adaptCompanion('genai_config.json', '{"a": [{"filename": "model.onnx"}]}', renamed)).toContain('other.onnx')
})

test('two configurations say the same when they differ in what they say of model files only', () => {
  const genai = (filename: string, size = 16) => JSON.stringify({ model: { decoder: { filename, head_size: size } } })
  expect(sayTheSame('genai_config.json', genai('a.onnx'), genai('b.onnx'))).toBe(true)
  expect(sayTheSame('genai_config.json', genai('a.onnx'), genai('a.onnx', 32))).toBe(false)
  const section = (rest: object) => JSON.stringify({ 'transformers.js_config': { dtype: 'q4', ...rest } })
  expect(sayTheSame('config.json', section({}), section({ use_external_data_format: { 'a.onnx': 2 } }))).toBe(true)
  expect(sayTheSame('config.json', section({}), section({ kv_cache_dtype: { q4f16: 'float16' } }))).toBe(true)
  expect(sayTheSame('config.json', section({}), section({ device: 'wasm' }))).toBe(false)
  expect(sayTheSame('config.json', '{', '{')).toBe(false)
  expect(sayTheSame('tokenizer.json', '{}', '{ }')).toBe(false)
})

test('a genai_config.json that names another model file says what to change', () => {
  const renamed = { before: 'model.onnx', after: 'b.onnx', files: ['b.onnx'] }
  const genai = (filename: string) => JSON.stringify({ model: { decoder: { filename } } })
  expect(adviceFor('genai_config.json', genai('a.onnx'), renamed)).toBe('give it "filename": "b.onnx"')
  expect(adviceFor('genai_config.json', genai('b.onnx'), renamed)).toBeUndefined()
})
