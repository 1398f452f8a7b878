/** @file Facts from the JSON files beside a model, with and without each of them. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { findFile, modelFolders, readModelConfig } from '../../src/decoder/model-folder.ts'
import { testFolder } from '../helpers/test-folder.ts'

function configOf(files: Record<string, unknown>) {
  const folder = testFolder()
  for (const [name, json] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(json))
  return readModelConfig([folder])
}

test('a model in onnx/ has its files in the folder above, unless beside it', () => {
  const folder = testFolder()
  const inner = join(folder, 'onnx')
  mkdirSync(inner)
  expect(modelFolders(join(inner, 'model.onnx'))).toEqual([inner, folder])
  expect(modelFolders(inner)).toEqual([inner, folder])
  expect(modelFolders(folder)).toEqual([folder])
  writeFileSync(join(folder, 'config.json'), '{}')
  expect(findFile(modelFolders(inner), 'config.json')).toBe(join(folder, 'config.json'))
  writeFileSync(join(inner, 'config.json'), '{}')
  expect(findFile(modelFolders(inner), 'config.json')).toBe(join(inner, 'config.json'))
})

test('genai_config.json', () => {
  const config = configOf({
    'genai_config.json': {
      model: {
        bos_token_id: 1,
        context_length: 512,
        vocab_size: 100,
        decoder: {
          head_size: 16,
          sliding_window: { window_size: 8 },
          inputs: { input_ids: 'tokens' },
          outputs: { logits: 'scores' },
        },
      },
    },
  })
  expect(config).toMatchObject({ bosTokenId: 1, maxPositions: 512, vocabSize: 100, headSize: 16, slidingWindow: 8 })
  expect(Object.fromEntries(config.names)).toEqual({ input_ids: 'tokens', logits: 'scores' })
})

test.each([
  [
    { max_position_embeddings: 64, vocab_size: 9 },
    { maxPositions: 64, vocabSize: 9 },
  ],
  [{ n_positions: 32 }, { maxPositions: 32 }],
  [{ text_config: { max_position_embeddings: 16, vocab_size: 5 } }, { maxPositions: 16, vocabSize: 5 }],
  [
    { max_position_embeddings: 'many', vocab_size: -1, bos_token_id: 1.5 },
    { maxPositions: undefined, vocabSize: undefined },
  ],
  [[1, 2], { maxPositions: undefined, bosTokenId: undefined }],
  [null, { maxPositions: undefined }],
])('config.json %j', (json, expected) => {
  expect(configOf({ 'config.json': json })).toMatchObject(expected)
})

test('a file that is not JSON is named', () => {
  const folder = testFolder()
  writeFileSync(join(folder, 'config.json'), '{')
  expect(() => readModelConfig([folder])).toThrow(join(folder, 'config.json'))
})
