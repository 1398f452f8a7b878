/** @file Types and shapes of inputs against what their names promise. */

import { expect, test } from 'vitest'
import { bindInputs } from '../../src/calibration/bind-inputs.ts'

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

test('contradictions come before names nobody knows, all in one message', () => {
  const inputs = [
    ids,
    { name: 'position_ids', dtype: 'float32', shape: ['b', 's'] },
    { name: 'use_cache_branch', dtype: 'int64', shape: [1] },
    { name: 'mystery', dtype: 'int64', shape: [] },
  ] as const
  expect(() => bindInputs(inputs, none)).toThrow(/"position_ids" float32 .* "use_cache_branch" int64/)
})
