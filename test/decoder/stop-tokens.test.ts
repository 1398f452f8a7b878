/** @file End-of-sequence tokens from the files beside a model. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { stopTokens } from '../../src/decoder/stop-tokens.ts'
import { testFolder } from '../helpers/test-folder.ts'

test.each<[string, Record<string, unknown>, number[]]>([
  ['none', {}, []],
  ['config.json', { 'config.json': { eos_token_id: 2 } }, [2]],
  ['a model that sees images too', { 'config.json': { text_config: { eos_token_id: 7 } } }, [7]],
  ['a list', { 'config.json': { eos_token_id: [2, 5] } }, [2, 5]],
  [
    'generation_config.json comes first',
    { 'generation_config.json': { eos_token_id: [1, 106] }, 'config.json': { eos_token_id: 2 } },
    [1, 106],
  ],
  [
    'genai_config.json',
    { 'genai_config.json': { model: { eos_token_id: [3, 4] } }, 'config.json': { eos_token_id: 2 } },
    [3, 4],
  ],
  ['null says nothing', { 'generation_config.json': { eos_token_id: null }, 'config.json': { eos_token_id: 2 } }, [2]],
])('%s', (_, files, expected) => {
  const folder = testFolder()
  for (const [name, json] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(json))
  expect(stopTokens([folder])).toEqual(expected)
})
