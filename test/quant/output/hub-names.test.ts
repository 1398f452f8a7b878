/** @file Names of transformers.js, compared with its own table, and the options that ask for them. */

import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { DTYPE_SUFFIXES, hubNameOf, hubNameOfFile, hubOptions, stemOf } from '../../../src/quant/output/hub-names.ts'
import { unless } from '../../helpers/unless.ts'

const TABLE = resolve(import.meta.dirname, '../../../node_modules/@huggingface/transformers/src/utils/dtypes.js')

test(
  'the suffixes are those of transformers.js',
  unless(existsSync(TABLE) ? undefined : 'transformers.js is not installed'),
  () => {
    const mapping = /DEFAULT_DTYPE_SUFFIX_MAPPING = Object.freeze\(\{(.*?)\}\)/s.exec(readFileSync(TABLE, 'utf8'))![1]!
    const rows = [...mapping.matchAll(/DATA_TYPES\.(\w+)\]: '(\w*)'/g)].map(([, dtype, suffix]) => [dtype, suffix])
    expect(Object.fromEntries(rows)).toEqual(DTYPE_SUFFIXES)
  },
)

test.each([
  ['model', 'w4a16g128', "{ dtype: 'q4' }"],
  ['model', 'w8a8', "{ dtype: 'q8' }"],
  ['decoder_model_merged', 'w2a16', "{ model_file_name: 'decoder_model_merged', dtype: 'q2' }"],
  ['model', 'w3a16g64', "{ model_file_name: 'model_w3a16g64', dtype: 'fp32' }"],
  ['model', 'w4a8', "{ model_file_name: 'model_w4a8', dtype: 'fp32' }"],
])('%s at %s is asked for with %s', (stem, scheme, options) => {
  const name = hubNameOf(stem, scheme)
  expect(hubOptions(name)).toBe(options)
  // The rule by which transformers.js makes a file name of the two.
  expect(`${name.stem}${DTYPE_SUFFIXES[name.dtype]}.onnx`).toBe(name.file)
  expect(hubNameOfFile(name.file)).toEqual(name)
})

test('a stem is the name without its storage type', () => {
  expect(['model_fp16.onnx', 'model_fp32.onnx', 'model.onnx', 'decoder_model_merged.onnx'].map(stemOf)).toEqual([
    ...['model', 'model', 'model', 'decoder_model_merged'],
  ])
})
