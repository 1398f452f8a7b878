/** @file A sequence that grows: the same logits with and without cache, and the widths of its runs; the speed of both. */

import { expect, test } from 'vitest'
import { Decoding } from '../../src/calibration/decoding.ts'
import { measureSpeed } from '../../src/calibration/speed.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import type { Tensors } from '../../src/kernels/session.ts'
import { toyDecoder, toyLogits } from './toy-decoder.ts'

const close = (logits: Float32Array, tokens: readonly number[]) =>
  toyLogits(tokens).forEach((logit, i) => expect(logits[i]).toBeCloseTo(logit, 5))

test.each([
  [true, [3, 1, 2]],
  [false, [3, 4, 6]],
])('cache %s', async (cached, widths) => {
  const decoder = toyDecoder({ cached })
  const decoding = new Decoding(decoder, decoder.io)
  expect(decoding.cached).toBe(cached)
  close(await decoding.append([1, 2, 3]), [1, 2, 3])
  close(await decoding.append([4]), [1, 2, 3, 4])
  close(await decoding.append([0, 2]), [1, 2, 3, 4, 0, 2])
  expect(decoding.length).toBe(6)
  expect(decoder.runs).toEqual(widths.map(width => [1, width]))
})

test('a file of fixed length and batch: the row of the last token, of the first sequence', async () => {
  const { io } = toyDecoder({ cached: false })
  const fixed = { ...io, seqLen: 4, batch: 2 }
  const session = {
    run: async (feeds: Tensors) => {
      expect(feeds['input_ids']!.dims).toEqual([2, 4])
      const ids = readNumbers(feeds['input_ids']!)
      const rows = [0, 4].flatMap(start => [1, 2, 3, 4].map(count => toyLogits(ids.slice(start, start + count))))
      return { logits: floatTensor([2, 4, 5], rows.flat()) }
    },
  }
  const decoding = new Decoding(session, fixed)
  close(await decoding.append([1, 2]), [1, 2])
  close(await decoding.append([3]), [1, 2, 3])
})

test.each([true, false])('speed, cache %s: prefill of whole windows, decode behind half of one', async cached => {
  const decoder = toyDecoder({ cached })
  const speed = await measureSpeed(decoder, decoder.io, 8)
  expect(speed).toMatchObject({ cached, tokens: 8 })
  expect(speed.prefillTokensPerSecond).toBeGreaterThan(0)
  expect(speed.decodeTokensPerSecond).toBeGreaterThan(0)
  const last = decoder.runs.map(([, width]) => width).slice(-5)
  expect(last).toEqual(cached ? [4, 1, 1, 1, 1] : [4, 5, 6, 7, 8])
  expect(new Set(decoder.runs.slice(0, -5).map(([, width]) => width))).toEqual(new Set([8]))
})

test('the speed of the shortest window', async () => {
  const decoder = toyDecoder({ cached: true })
  expect((await measureSpeed(decoder, decoder.io, 2)).decodeTokensPerSecond).toBeGreaterThan(0)
  await expect(measureSpeed(decoder, { ...decoder.io, maxPositions: 3 }, 4)).rejects.toMatchObject({
    code: 'E_SEQ_LEN',
  })
})
