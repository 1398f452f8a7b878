/** @file Types and shapes of inputs against what their names promise. */

import { expect, test } from 'vitest'
import { bindInputs } from '../../src/decoder/bind-inputs.ts'

const ids = { name: 'input_ids', dtype: 'int64', shape: ['b', 's'] } as const
const none = new Map<string, string>()

test('unknown types and shapes contradict nothing', () => {
  const bound = bindInputs(
    [
      { name: 'input_ids', dtype: undefined, shape: undefined },
      { name: 'attention_mask', dtype: 'int64', shape: [] },
      { name: 'past_key_values.0.key', dtype: undefined, shape: ['b', -1, undefined, ''] },
    ],
    none,
  )
  expect(bound.inputIds).toEqual({ name: 'input_ids', dtype: 'int64' })
  expect(bound.past).toEqual([
    {
      name: 'past_key_values.0.key',
      dtype: 'float32',
      layer: 0,
      kind: 'key',
      heads: undefined,
      headDim: undefined,
      sliding: false,
    },
  ])
})

test('num_logits_to_keep is a scalar or has one element', () => {
  const dims = (shape: readonly number[]) =>
    bindInputs([ids, { name: 'num_logits_to_keep', dtype: 'int64', shape }], none).logitsToKeep?.dims
  expect(dims([])).toEqual([])
  expect(dims([1])).toEqual([1])
  expect(() => dims([2, 2])).toThrow('rank 0 or 1')
})

const mask = { name: 'past_key_values.0.key', dtype: 'int64', shape: ['b', 'p + s'] } as const
const positions = { name: 'past_key_values.0.value', dtype: 'int64', shape: ['b', 's'] } as const
const key = { name: 'attention_mask', dtype: 'float32', shape: ['b', 4, 'p', 16] } as const
const value = { name: 'position_ids', dtype: 'float32', shape: ['b', 4, 'p', 16] } as const

test('permuted names: what types and shapes settle is bound by them', () => {
  const bound = bindInputs([ids, mask, positions, key, value], none)
  expect(bound).toMatchObject({
    inputIds: { name: 'input_ids' },
    renamed: [
      { name: mask.name, role: 'attention_mask' },
      { name: positions.name, role: 'position_ids' },
      { name: key.name, role: 'the keys of layer 0' },
      { name: value.name, role: 'the values of layer 0' },
    ],
    ...{ attentionMask: { name: mask.name }, positionIds: { name: positions.name } },
    past: [
      { name: key.name, layer: 0, kind: 'key', heads: 4, headDim: 16 },
      { name: value.name, layer: 0, kind: 'value' },
    ],
  })
  expect(bindInputs([ids], none).renamed).toEqual([])
})

test.each([
  ['two inputs as long as the tokens', [ids, { ...mask, shape: ['b', 's'] }, positions, key, value]],
  ['a mask of no known shape', [ids, { ...mask, shape: undefined }, positions, key, value]],
  ['fewer caches than names of caches', [ids, mask, positions, key, { ...value, dtype: 'int64' as const }]],
  ['names that nobody knows', [ids, mask, positions, key, value, { ...positions, name: 'mystery' }]],
  ['input_ids that are none', [{ ...ids, dtype: 'float32' as const }, mask, positions, key, value]],
])('permuted names are refused with %s', (_, inputs) => {
  expect(() => bindInputs(inputs, none)).toThrow(/contradicts their name: .*"past_key_values.0.key"/)
})

test('contradictions come before names nobody knows, all in one message', () => {
  const inputs = [
    ids,
    { name: 'position_ids', dtype: 'float32', shape: ['b', 's'] },
    { name: 'use_cache_branch', dtype: 'int64', shape: [1] },
    { name: 'mystery', dtype: 'int64', shape: [] },
  ] as const
  expect(() => bindInputs(inputs, none)).toThrow(/"position_ids" float32 .* "use_cache_branch" int64/)
})

test('a batch and a length that the file fixes; a row of positions for all sequences fixes nothing', () => {
  const attention = { name: 'attention_mask', dtype: 'int64', shape: [4, 'total'] } as const
  const place = { name: 'position_ids', dtype: 'int64' } as const
  const bind = (...inputs: Parameters<typeof bindInputs>[0]) => bindInputs(inputs, none)
  const ofFour = { ...ids, shape: [4, 16] } as const
  expect(bind(ids)).toMatchObject({ batch: undefined, seqLen: undefined, sharedPositions: false })
  expect(bind(ofFour, attention)).toMatchObject({ batch: 4, seqLen: 16, sharedPositions: false })
  expect(bind(ids, attention)).toMatchObject({ batch: 4, seqLen: undefined })
  expect(bind(ofFour, { ...place, shape: [1, 16] })).toMatchObject({ batch: 4, sharedPositions: true })
  expect(bind({ ...ids, shape: [1, 1] })).toMatchObject({ batch: 1, seqLen: undefined })
  expect(() => bind({ ...ids, shape: [2, 's'] }, attention)).toThrow(
    'inputs are for different numbers of sequences: "input_ids" int64 [2, s], "attention_mask" int64 [4, total]',
  )
  expect(() => bind({ ...ids, shape: [2 ** 20, 2 ** 20] })).toThrow(
    'every run takes 1048576 sequences of 1048576 tokens',
  )
})
