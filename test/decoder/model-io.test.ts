/** @file Inputs and outputs are bound by role, contradictions are refused, and what is fed fits. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { feedsFor, nextPast } from '../../src/decoder/feeds.ts'
import { describeIo, hasCache, type IoSource } from '../../src/decoder/model-io.ts'
import type { DType } from '../../src/graph/dtype.ts'
import { Builder } from '../../src/graph/builder.ts'
import { Graph, newModel, Node, Value } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers, sizeBytes } from '../../src/graph/tensor.ts'
import type { Tensors } from '../../src/kernels/session.ts'
import { testFolder } from '../helpers/test-folder.ts'

type Row = readonly [name: string, dtype: DType, shape: readonly (number | string)[]]

const ioSource = (inputs: readonly Row[], outputs: readonly Row[]): IoSource => {
  const values = (rows: readonly Row[]) => rows.map(([name, dtype, shape]) => ({ name, dtype, shape }))
  return { inputs: values(inputs), outputs: values(outputs) }
}

const IDS: Row = ['input_ids', 'int64', ['batch', 'sequence']]
const MASK: Row = ['attention_mask', 'int64', ['batch', 'past + sequence']]
const POSITIONS: Row = ['position_ids', 'int64', ['batch', 'sequence']]
const LOGITS: Row = ['logits', 'float32', ['batch', 'sequence', 100]]
const cache = (name: string, dtype: DType = 'float32', dim: number | string = 8): Row => [
  name,
  dtype,
  ['batch', 2, 'past', dim],
]
const pasts = [cache('past_key_values.0.key'), cache('past_key_values.0.value')]
const presents = [cache('present.0.key'), cache('present.0.value')]

/** Names, types, shapes and values of what is fed. */
const plain = (feeds: Tensors) =>
  Object.fromEntries(
    Object.entries(feeds).map(([name, tensor]) => [name, [tensor.dtype, tensor.dims, readNumbers(tensor)]]),
  )

test('a file with a cache: every role found, the order of inputs does not matter', () => {
  const io = describeIo(ioSource([...pasts, MASK, POSITIONS, IDS], [...presents, LOGITS]))
  expect(io).toMatchObject({
    inputIds: { name: 'input_ids', dtype: 'int64' },
    attentionMask: { name: 'attention_mask' },
    positionIds: { name: 'position_ids' },
    logits: { name: 'logits', dtype: 'float32' },
    vocabSize: 100,
    maxPositions: undefined,
  })
  expect(io.past).toEqual([
    {
      name: 'past_key_values.0.key',
      dtype: 'float32',
      layer: 0,
      kind: 'key',
      heads: 2,
      headDim: 8,
      capacity: 0,
      present: 'present.0.key',
    },
    {
      name: 'past_key_values.0.value',
      dtype: 'float32',
      layer: 0,
      kind: 'value',
      heads: 2,
      headDim: 8,
      capacity: 0,
      present: 'present.0.value',
    },
  ])
  expect(hasCache(io)).toBe(true)
})

test('first run: ones, positions from zero, empty cache; later runs go on from there', () => {
  const io = describeIo(ioSource([IDS, MASK, POSITIONS, ...pasts], [LOGITS, ...presents]))
  expect(plain(feedsFor(io, BigInt64Array.of(5n, 6n, 7n, 8n), 2, 2))).toEqual({
    input_ids: ['int64', [2, 2], [5, 6, 7, 8]],
    attention_mask: ['int64', [2, 2], [1, 1, 1, 1]],
    position_ids: ['int64', [2, 2], [0, 1, 0, 1]],
    'past_key_values.0.key': ['float32', [2, 2, 0, 8], []],
    'past_key_values.0.value': ['float32', [2, 2, 0, 8], []],
  })
  const key = floatTensor([1, 2, 3, 8], new Float32Array(48))
  const past = nextPast(io, { 'present.0.key': key, 'present.0.value': key }, 3)
  const feeds = feedsFor(io, BigInt64Array.of(9n), 1, 1, past)
  expect(plain(feeds)).toMatchObject({
    attention_mask: ['int64', [1, 4], [1, 1, 1, 1]],
    position_ids: ['int64', [1, 1], [3]],
  })
  expect(feeds['past_key_values.0.value']).toBe(key)
})

test('int32 inputs, a bool mask, half-precision caches, the merged switch and num_logits_to_keep', () => {
  const io = describeIo(
    ioSource(
      [
        ['input_ids', 'int32', ['batch', 'sequence']],
        ['attention_mask', 'bool', ['batch', 'total']],
        ['num_logits_to_keep', 'int64', []],
        ['use_cache_branch', 'bool', [1]],
        cache('past_key_0', 'float16'),
        cache('past_value_0', 'float16'),
      ],
      [LOGITS, cache('present_key_0', 'float16'), cache('present_value_0', 'float16')],
    ),
  )
  const tokens = BigInt64Array.of(1n, 2n)
  const feeds = feedsFor(io, tokens, 1, 2)
  expect(plain(feeds)).toEqual({
    input_ids: ['int32', [1, 2], [1, 2]],
    attention_mask: ['bool', [1, 2], [1, 1]],
    num_logits_to_keep: ['int64', [], [0]],
    use_cache_branch: ['bool', [1], [0]],
    past_key_0: ['float16', [1, 2, 0, 8], []],
    past_value_0: ['float16', [1, 2, 0, 8], []],
  })
  const past = { length: 2, tensors: feeds }
  expect(plain(feedsFor(io, tokens, 1, 2, past, 1))).toMatchObject({
    num_logits_to_keep: ['int64', [], [1]],
    use_cache_branch: ['bool', [1], [1]],
  })
})

test('names and sizes of genai_config.json, positions of config.json', () => {
  const folder = testFolder()
  const names = { input_ids: 'tokens', past_key_names: 'k_in[%d]', past_value_names: 'v_in[%d]' }
  const outputs = { logits: 'scores', present_key_names: 'k_out[%d]', present_value_names: 'v_out[%d]' }
  const decoder = { head_size: 16, inputs: names, outputs, sliding_window: { window_size: 6 } }
  writeFileSync(
    join(folder, 'genai_config.json'),
    JSON.stringify({ model: { decoder, context_length: 40, bos_token_id: 7 } }),
  )
  const io = describeIo(
    ioSource(
      [
        ['tokens', 'int64', ['b', 's']],
        ['k_in[3]', 'float32', ['b', 2, 'past_sliding_length', 'kv_cache_dim']],
        cache('v_in[3]', 'float32', 'kv_cache_dim'),
      ],
      [
        ['other', 'float32', ['b', 's', 5]],
        ['scores', 'float32', ['b', 's', 90]],
        cache('v_out[3]'),
        cache('k_out[3]'),
      ],
    ),
    folder,
  )
  expect(io).toMatchObject({
    inputIds: { name: 'tokens' },
    logits: { name: 'scores' },
    vocabSize: 90,
    maxPositions: 40,
    bosTokenId: 7,
  })
  expect(io.past).toMatchObject([
    { layer: 3, kind: 'key', headDim: 16, capacity: 6, present: 'k_out[3]' },
    { layer: 3, kind: 'value', headDim: 16, capacity: 0, present: 'v_out[3]' },
  ])
  // The ring of a sliding-window layer must have its length even when it is empty.
  const ring = feedsFor(io, BigInt64Array.of(1n), 1, 1)['k_in[3]']!
  expect([ring.dims, sizeBytes(ring)]).toEqual([[1, 2, 6, 16], 2 * 6 * 16 * 4])
})

test('logits by shape where no output has the name', () => {
  expect(describeIo(ioSource([IDS], [cache('x'), ['linear_14', 'float32', ['b', 's', 7]]])).logits.name).toBe(
    'linear_14',
  )
})

test('a cache that is not given back is no cache', () => {
  const io = describeIo(ioSource([IDS, ...pasts], [LOGITS, presents[0]!]))
  expect(io.past[1]!.present).toBeUndefined()
  expect(hasCache(io)).toBe(false)
  expect(hasCache(describeIo(ioSource([IDS], [LOGITS, ...presents])))).toBe(false)
})

const refusals: readonly [string, readonly Row[], readonly Row[], string][] = [
  [
    'no input_ids',
    [['inputs_embeds', 'float32', ['b', 's', 64]], MASK],
    [LOGITS],
    '"inputs_embeds" float32 [b, s, 64]',
  ],
  [
    'permuted names that shapes do not settle',
    [IDS, ['past_key_values.0.key', 'int64', ['b', 's', 's']], cache('attention_mask')],
    [LOGITS],
    '"past_key_values.0.key" int64 [b, s, s] (should be float32 or float16 or bfloat16 of rank 4); "attention_mask" float32',
  ],
  ['a 4-D mask', [IDS, ['attention_mask', 'int64', ['b', 1, 's', 's']]], [LOGITS], 'attention_mask'],
  [
    'unknown inputs, all of them',
    [IDS, ['token_type_ids', 'int64', ['b', 's']], ['past_key_values.0.encoder.key', 'float32', [1, 2, 3, 4]]],
    [LOGITS],
    '"token_type_ids" int64 [b, s], "past_key_values.0.encoder.key" float32 [1, 2, 3, 4]',
  ],
  ['no logits', [IDS], [cache('hidden')], 'no output looks like logits'],
  ['logits of the wrong rank', [IDS], [['logits', 'float32', ['b', 100]]], '"logits" float32 [b, 100]'],
  [
    'a present of another type',
    [IDS, pasts[0]!],
    [LOGITS, cache('present.0.key', 'float16')],
    '"present.0.key" float16',
  ],
  ['a present with other heads', [IDS, pasts[0]!], [LOGITS, ['present.0.key', 'float32', ['b', 3, 't', 8]]], '3'],
  [
    'a head width nobody knows',
    [IDS, cache('past_key_values.0.key', 'float32', 'kv_cache_dim')],
    [LOGITS],
    'head width',
  ],
]

test.each(refusals)('refuses %s', (_, inputs, outputs, message) => {
  expect(() => describeIo(ioSource(inputs, outputs))).toThrow(expect.objectContaining({ code: 'E_INPUTS' }))
  expect(() => describeIo(ioSource(inputs, outputs))).toThrow(message)
})

test('of a model: initializers listed as inputs are not fed', () => {
  const g = new Builder()
  const table = g.initializer('table', floatTensor([9, 4], new Float32Array(36)))
  const ids = g.input('input_ids', 'int64', [1, 3])
  g.graph.inputs.push(table)
  g.output(g.op('Gather', [table, ids]), 'logits')
  const io = describeIo(newModel(g.graph))
  expect(io).toMatchObject({ vocabSize: 4, past: [] })
  expect(Object.keys(feedsFor(io, BigInt64Array.of(1n, 2n, 3n), 1, 3))).toEqual(['input_ids'])
})

test('of a model: caches bound by their shape must be the ones that the outputs continue', () => {
  const permuted = (inOrder: boolean) => {
    const graph = new Graph()
    const row = ([name, dtype, shape]: Row) => new Value(name, dtype, shape)
    // The names of the mask, the positions and the two caches, one list turned against the other.
    const [mask, positions] = [MASK, POSITIONS].map(([, ...type], i) =>
      row([`past_key_values.0.${i ? 'value' : 'key'}`, ...type]),
    )
    const caches = [row(cache('attention_mask')), row(cache('position_ids'))]
    graph.inputs = [row(IDS), mask!, positions!, ...caches]
    const outputs = presents.map(row)
    const added = row(cache('added'))
    const joined = inOrder ? caches : [...caches].reverse()
    graph.nodes = outputs.map((output, i) => new Node('Concat', [joined[i], added], [output]))
    graph.outputs = [row(LOGITS), ...outputs]
    return newModel(graph)
  }
  expect(describeIo(permuted(true)).past.map(({ name, kind }) => [name, kind])).toEqual([
    ['attention_mask', 'key'],
    ['position_ids', 'value'],
  ])
  expect(() => describeIo(permuted(false))).toThrow('"present.0.key" does not continue "attention_mask"')
})
