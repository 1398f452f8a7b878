/** @file Text of a real model: many pieces at once say what each would alone, and every run says the same. */

import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { generateTokens } from '../../src/calibration/generate.ts'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo, type ModelIo } from '../../src/decoder/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type Session } from '../../src/kernels/session.ts'

const MODEL = resolve(import.meta.dirname, '../../fixtures/tiny-llama/model.onnx')
const [SAMPLES, LENGTH, PIECE] = [6, 25, 8]

async function withModel<T>(use: (session: Session, io: ModelIo) => Promise<T>): Promise<T> {
  const session = await openModel(MODEL, { threads: 2 })
  try {
    // Random first tokens, so that greedy pieces differ.
    return await use(session, { ...describeIo(session, resolve(MODEL, '..')), bosTokenId: undefined })
  } finally {
    await session.release()
  }
}

/** Logits after a prefix, from a run of nothing else. */
async function logitsAfter(session: Session, io: ModelIo, prefix: BigInt64Array): Promise<Float32Array> {
  const tensor = (await session.run(feedsFor(io, prefix, 1, prefix.length), [io.logits.name]))[io.logits.name]!
  return readFloats(tensor).subarray(-tensor.dims.at(-1)!)
}

test('greedy text in one batch is that of pieces one by one, up to ties', async () => {
  await withModel(async (session, io) => {
    const write = async (batch: number) =>
      (
        await generateTokens(session, io, {
          samples: SAMPLES,
          seqLen: LENGTH,
          seed: 0,
          piece: PIECE,
          topK: 1,
          batch,
        })
      ).tokens
    const [alone, together] = [await write(1), await write(64)]
    let equal = 0
    for (let start = 0; start < alone.length; start += LENGTH) {
      // The first piece of a sample: the others begin after a token that is not kept.
      const [a, b] = [alone, together].map(tokens => tokens.subarray(start, start + 1 + PIECE))
      const part = a!.findIndex((token, i) => token !== b![i])
      if (part < 0) {
        equal++
        continue
      }
      const logits = await logitsAfter(session, io, a!.subarray(0, part))
      expect(Math.abs(logits[Number(a![part]!)]! - logits[Number(b![part]!)]!)).toBeLessThan(1e-4)
    }
    expect(equal).toBeGreaterThan(SAMPLES / 2)
    expect(new Set(alone).size).toBeGreaterThan(PIECE)
  })
})

test('greedy text is the likeliest continuation, by runs without cache', async () => {
  await withModel(async (session, io) => {
    const options = { samples: 2, seqLen: 1 + PIECE, seed: 0, topK: 1 }
    const { tokens } = await generateTokens(session, io, options)
    for (const start of [0, 1 + PIECE])
      for (let t = 1; t <= PIECE; t++) {
        const logits = await logitsAfter(session, io, tokens.subarray(start, start + t))
        expect(Math.max(...logits) - logits[Number(tokens[start + t])]!).toBeLessThan(1e-4)
      }
  })
})

test('every run writes the same bytes', async () => {
  const write = () =>
    withModel((session, io) => generateTokens(session, io, { samples: 12, seqLen: 40, seed: 5, piece: 16 }))
  const first = await write()
  expect(await write()).toEqual(first)
})
