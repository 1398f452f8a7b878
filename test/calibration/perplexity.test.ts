/** @file Perplexity against what the definition gives. */

import { expect, test } from 'vitest'
import { checkSeqLen } from '../../src/decoder/model-io.ts'
import { compareWith, perplexity } from '../../src/calibration/perplexity.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { Builder } from '../../src/graph/builder.ts'
import { newModel } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { compile } from '../../src/kernels/session.ts'
import { toyDecoder, toyLogits } from './toy-decoder.ts'

const windows = [
  [1, 2, 3, 4],
  [0, 4, 0, 1],
  [2, 2, 2, 2],
]
const asWindows = (rows: readonly (readonly number[])[]) => rows.map(row => BigInt64Array.from(row, BigInt))

/** Mean of -log p over every token but the first of each window. */
function definition(): number {
  const losses = windows.flatMap(window =>
    window.slice(1).map((token, t) => {
      const weights = toyLogits(window.slice(0, t + 1)).map(Math.exp)
      return -Math.log(weights[token]! / weights.reduce((a, b) => a + b))
    }),
  )
  return losses.reduce((a, b) => a + b) / losses.length
}

test.each([1, 2, 3, undefined])('is exp of the mean loss over positions 1 .. T-1 (batch %s)', async batch => {
  const decoder = toyDecoder({ cached: true })
  const result = await perplexity(decoder, decoder.io, asWindows(windows), { batch })
  expect(result.meanLoss).toBeCloseTo(definition(), 6) // the logits went through float32
  expect(result).toMatchObject({ perplexity: Math.exp(result.meanLoss), tokens: 9, windows: 3 })
})

test('a model that knows nothing has the perplexity of its vocabulary', async () => {
  const g = new Builder()
  const ids = g.input('input_ids', 'int64', [1, 6])
  g.output(g.op('Gather', [g.initializer('table', floatTensor([7, 7], new Float32Array(49).fill(3))), ids]), 'logits')
  const session = await compile(g.graph, { threads: 1 })
  try {
    const rows = asWindows([
      [0, 1, 2, 3, 4, 5],
      [6, 6, 6, 6, 6, 6],
    ])
    const result = await perplexity(session, describeIo(newModel(g.graph)), rows, { batch: 1 })
    expect(result.perplexity).toBeCloseTo(7, 10)
  } finally {
    await session.release()
  }
})

test('progress after each run; a model that runs single sequences only is run so', async () => {
  const decoder = toyDecoder({ cached: false, maxBatch: 1 })
  const seen: string[] = []
  await perplexity(decoder, decoder.io, asWindows(windows), {
    onProgress: (done, total) => seen.push(`${done}/${total}`),
  })
  expect(seen).toEqual(['1/3', '2/3', '3/3'])
  expect(decoder.runs).toEqual([
    [3, 4],
    [1, 4],
    [1, 4],
    [1, 4],
  ])
})

test('refuses windows that are too long, tokens of another model, logits of the last position only', async () => {
  const decoder = toyDecoder({ cached: true })
  const short = { ...decoder.io, maxPositions: 3 }
  await expect(perplexity(decoder, short, asWindows(windows))).rejects.toMatchObject({ code: 'E_SEQ_LEN' })
  expect(() => checkSeqLen(short, 3)).not.toThrow()
  await expect(perplexity(decoder, decoder.io, asWindows([[1, 5]]))).rejects.toThrow('token 5 is outside')
  const last = { run: async () => ({ logits: floatTensor([1, 1, 5], [1, 2, 3, 4, 5]) }) }
  await expect(perplexity(last, decoder.io, asWindows([[1, 2]]))).rejects.toMatchObject({ code: 'E_INPUTS' })
  await expect(perplexity(decoder, decoder.io, asWindows([[1, 2], [1]]))).rejects.toMatchObject({ code: 'E_INTERNAL' })
})

test('with a stride every token of the text but the first is predicted once, from the tokens of its window', async () => {
  const stream = [1, 2, 3, 4, 0, 2, 4, 1]
  const decoder = toyDecoder({ cached: true })
  const rows = asWindows([stream.slice(0, 4), stream.slice(2, 6), stream.slice(4, 8)])
  const lossOf = (context: number[], token: number) => {
    const weights = toyLogits(context).map(Math.exp)
    return -Math.log(weights[token]! / weights.reduce((a, b) => a + b))
  }
  const losses = stream.slice(1).map((token, i) => {
    const at = i + 1
    const start = at < 4 ? 0 : at < 6 ? 2 : 4
    return lossOf(stream.slice(start, at), token)
  })
  for (const batch of [1, 2]) {
    const result = await perplexity(decoder, decoder.io, rows, { stride: 2, batch })
    expect(result.tokens).toBe(7)
    expect(result.meanLoss).toBeCloseTo(losses.reduce((a, b) => a + b) / 7, 6)
  }
})

test('a comparison in any batch, also where one file fixes its own; logits of different widths are refused', async () => {
  const decoder = toyDecoder({ cached: true })
  const other = toyDecoder({ cached: false })
  const p = { name: 'p.onnx', session: other, io: other.io }
  const q = {
    name: 'q.onnx',
    io: decoder.io,
    session: {
      run: async (feeds: Parameters<typeof decoder.run>[0]) => {
        const { logits } = await decoder.run(feeds)
        return {
          logits: floatTensor(
            logits!.dims,
            readNumbers(logits!).map((logit, i) => logit + Math.cos(i)),
          ),
        }
      },
    },
  }
  const whole = await compareWith(p, q, asWindows(windows), { stride: 3, batch: 1 })
  expect(whole.reference.meanLoss).toBeCloseTo(definition(), 6)
  expect(whole.divergence.klMean).toBeGreaterThan(0.01)
  // In its own batch of one the rows of q are the same ones; the reference runs padded to three.
  const padded = await compareWith(
    { ...p, io: { ...p.io, batch: 3 } },
    { ...q, io: { ...q.io, batch: 1 } },
    asWindows(windows),
    { stride: 3 },
  )
  expect({ ...padded.divergence }).toEqual(whole.divergence)
  const same = await compareWith(p, { ...p, name: 'again' }, asWindows(windows))
  expect(same.divergence).toMatchObject({ klMean: 0, kl99: 0, sameTop: 1, sameTopError: 0 })
  const wide = { ...q, session: { run: async () => ({ logits: floatTensor([3, 4, 7], new Float32Array(84)) }) } }
  await expect(compareWith(p, wide, asWindows(windows), { batch: 3 })).rejects.toMatchObject({
    code: 'E_VOCABULARY',
    message: 'the vocabularies differ: q.onnx gives logits for 7 tokens, p.onnx for 5',
  })
})
