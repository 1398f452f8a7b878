/** @file Names of inputs and outputs, and the roles they stand for. */

import { expect, test } from 'vitest'
import { inputRole, presentRole } from '../../src/decoder/io-roles.ts'

const none = new Map<string, string>()

test.each([
  ['past_key_values.0.key', 0, 'key'],
  ['past_key_values.11.value', 11, 'value'],
  ['past_key_3', 3, 'key'],
  ['past_value_3', 3, 'value'],
  ['past.2.k', 2, 'key'],
  ['past_key_values_4_value', 4, 'value'],
])('%s is layer %i, %s', (name, layer, kind) => {
  expect(inputRole(name, none)).toEqual({ layer, kind })
  expect(presentRole(name, none)).toBeUndefined()
  expect(presentRole(name.replace('past', 'present'), none)).toEqual({ layer, kind })
})

test.each(['past_key_values.0.encoder.key', 'past_key_values.key', 'past_key_values.0.key_value', 'past', 'kv'])(
  '%s is no cache of a decoder',
  name => expect(inputRole(name, none)).toBeUndefined(),
)

test('fixed names, and those of genai_config.json before them', () => {
  expect(inputRole('input_ids', none)).toBe('input_ids')
  expect(inputRole('logits_to_keep', none)).toBe('num_logits_to_keep')
  const names = new Map([
    ['position_ids', 'pos'],
    ['past_key_names', 'a.%d.(k)'],
    ['past_value_names', 'a.%d.(v)'],
    ['present_value_names', 'b%d'],
  ])
  expect(inputRole('pos', names)).toBe('position_ids')
  expect(inputRole('a.7.(v)', names)).toEqual({ layer: 7, kind: 'value' })
  expect(inputRole('aX7.(v)', names)).toBeUndefined()
  expect(presentRole('b12', names)).toEqual({ layer: 12, kind: 'value' })
})
