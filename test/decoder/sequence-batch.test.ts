/** @file Sequences that grow together: logits as of the whole prefix, the cache fed as it came. */

import { expect, test } from 'vitest'
import { type NextLogits, SequenceBatch } from '../../src/decoder/sequence-batch.ts'
import type { Session, Tensors } from '../../src/kernels/session.ts'
import { toyDecoder, toyLogits, VOCABULARY } from '../calibration/toy-decoder.ts'

const ids = (...tokens: number[]) => BigInt64Array.from(tokens, BigInt)
const rowOf = ({ logits, startOf, vocabulary }: NextLogits, i: number) =>
  Array.from(logits.subarray(startOf(i), startOf(i) + vocabulary))
const expected = (prefix: number[]) => Array.from(Float32Array.from(toyLogits(prefix)))

test.each([true, false])('a prompt and single tokens after it (cache: %s)', async cached => {
  const decoder = toyDecoder({ cached })
  const batch = new SequenceBatch(decoder, decoder.io, 2)
  expect(batch.cached).toBe(cached)
  const prompt = await batch.append(ids(1, 2, 3, 4, 0, 1))
  expect(prompt.vocabulary).toBe(VOCABULARY)
  expect([rowOf(prompt, 0), rowOf(prompt, 1)]).toEqual([expected([1, 2, 3]), expected([4, 0, 1])])
  const next = await batch.append(ids(0, 3))
  expect([rowOf(next, 0), rowOf(next, 1)]).toEqual([expected([1, 2, 3, 0]), expected([4, 0, 1, 3])])
  expect(batch.length).toBe(4)
  expect(decoder.runs).toEqual([
    [2, 3],
    [2, cached ? 1 : 4],
  ])
})

test('a file of fixed batch and length is filled up; the logits are those of the last token', async () => {
  const decoder = toyDecoder({ cached: false })
  const batch = new SequenceBatch(decoder, { ...decoder.io, batch: 3, seqLen: 5 }, 2)
  await batch.append(ids(1, 4))
  const next = await batch.append(ids(2, 0))
  expect([rowOf(next, 0), rowOf(next, 1)]).toEqual([expected([1, 2]), expected([4, 0])])
  expect(decoder.runs).toEqual([
    [3, 5],
    [3, 5],
  ])
})

test('the cache that a run gave is fed to the next without a copy', async () => {
  const decoder = toyDecoder({ cached: true })
  const given: unknown[] = []
  const fed: unknown[] = []
  const session: Pick<Session, 'run'> = {
    run: async (feeds: Tensors) => {
      fed.push(feeds['past_key_values.0.key']!.data)
      const outputs = await decoder.run(feeds)
      given.push(outputs['present.0.key']!.data)
      return outputs
    },
  }
  const batch = new SequenceBatch(session, decoder.io, 1)
  for (const token of [1, 2, 3]) await batch.append(ids(token))
  expect(fed[1]).toBe(given[0])
  expect(fed[2]).toBe(given[1])
})
