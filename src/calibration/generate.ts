/** @file The model writes its own calibration text. Knows no files. */

import { option } from '../option-mark.ts'
import { feedsFor, nextPast, type Past, rowsOf } from '../decoder/feeds.ts'
import { checkSeqLen, hasCache, type ModelIo } from '../decoder/model-io.ts'
import { QuantError } from '../errors.ts'
import { byteLength } from '../graph/dtype.ts'
import { readFloats } from '../kernels/float16.ts'
import type { Session } from '../kernels/session.ts'
import { batchFor, withBatch } from './batch.ts'
import type { CalibrationSamples } from './dataset.ts'
import { drawToken, type SamplingOptions } from './logits.ts'
import { Random } from './rng.ts'

export interface GenerateOptions extends SamplingOptions {
  readonly samples: number
  /** Tokens per sample, the first (BOS or random) included. */
  readonly seqLen: number
  readonly seed: number
  /** First token of every sample: `io.bosTokenId` when absent, a random one each where that is not known either. */
  readonly bosTokenId?: number | undefined
  /** Samples written at once; chosen by the size of the cache and the logits when absent, by the file where it fixes their number. */
  readonly batch?: number | undefined
  /** Called after every token with the tokens that are written, of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/** Bytes one sequence brings back per run, at its longest. */
function bytesPerSequence(io: ModelIo, vocabulary: number, seqLen: number): number {
  if (!hasCache(io)) return seqLen * vocabulary * 4
  const cache = io.past.reduce((sum, port) => sum + byteLength(port.dtype, port.heads * port.headDim * seqLen), 0)
  return cache + vocabulary * 4
}

function firstTokens(io: ModelIo, bosTokenId: number | undefined, randoms: readonly Random[]): number[] {
  const vocabulary = io.vocabSize
  if (bosTokenId !== undefined && (vocabulary === undefined || bosTokenId < vocabulary)) {
    return randoms.map(() => bosTokenId)
  }
  if (bosTokenId === undefined && vocabulary !== undefined) return randoms.map(random => random.int(vocabulary))
  throw new QuantError(
    'E_CALIBRATION',
    bosTokenId === undefined
      ? 'the model cannot write its own calibration text: neither its begin-of-text token nor its vocabulary is known'
      : `the begin-of-text token ${bosTokenId} is outside the model's vocabulary of ${vocabulary}`,
    `Put the right config.json beside the model, or give a text with ${option('calib', 'FILE')}.`,
  )
}

/**
 * Calibration samples written by the model itself, so that no data set is needed. The idea is LLM-QAT's
 * (arXiv 2305.17888, section 3.1: generated data keeps the model's own distribution). Differently from there, which takes
 * the likeliest token for the first 3 to 5 positions, every token is drawn from the whole distribution (temperature 1, no
 * top-k by default), and the text goes on after an end-of-text token, as packed training text does.
 *
 * With a KV cache that the file gives back, a token costs one run over one position. Without, every token is a run over
 * all the tokens before it: seqLen^2 / 2 positions for each sample, so keep seqLen short or give a text instead.
 * A sample depends on `seed` and its number only, not on the batch it is written in (but for rounding in onnxruntime).
 * @throws E_SEQ_LEN, E_CALIBRATION (nothing known to start from), E_RUNTIME.
 */
export async function generateTokens(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  options: GenerateOptions,
): Promise<CalibrationSamples> {
  const { samples, seqLen, seed, bosTokenId = io.bosTokenId, onProgress } = options
  checkSeqLen(io, seqLen)
  const guess = batchFor(bytesPerSequence(io, io.vocabSize ?? 2 ** 17, seqLen), samples)
  const tokens = new BigInt64Array(samples * seqLen)
  await withBatch(io.batch ?? options.batch, guess, async batch => {
    let done = 0
    for (let first = 0; first < samples; first += batch) {
      const randoms = Array.from({ length: Math.min(batch, samples - first) }, (_, i) => new Random(seed, first + i))
      const rows = tokens.subarray(first * seqLen, (first + randoms.length) * seqLen)
      firstTokens(io, bosTokenId, randoms).forEach((token, i) => (rows[i * seqLen] = BigInt(token)))
      const onToken = () => onProgress?.((done += randoms.length), samples * seqLen)
      await writeRows(session, io, rows, randoms, options, onToken)
    }
  })
  return { tokens, samples, seqLen }
}

/** Fills rows [randoms.length, seqLen], whose first tokens are there, one position after the other. */
async function writeRows(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  rows: BigInt64Array,
  randoms: readonly Random[],
  sampling: SamplingOptions & { readonly seqLen: number },
  onToken: () => void,
): Promise<void> {
  const batch = randoms.length
  const { seqLen } = sampling
  const cached = hasCache(io)
  const fetches = [io.logits.name, ...(cached ? io.past.map(({ present }) => present!) : [])]
  let past: Past | undefined
  onToken()
  for (let position = 1; position < seqLen; position++) {
    const from = past?.length ?? 0
    // Where the length is fixed, what comes after the tokens is ignored: attention looks back only.
    const width = io.seqLen ?? position - from
    const fed = new BigInt64Array(batch * width)
    for (let i = 0; i < batch; i++) {
      fed.set(rows.subarray(i * seqLen + from, i * seqLen + position), i * width)
    }
    const outputs = await session.run(feedsFor(io, fed, batch, width, past, io.seqLen === undefined ? 1 : 0), fetches)
    const logits = readFloats(outputs[io.logits.name]!)
    // [batch, width or 1, vocabulary]: what comes next stands in the row of the last token.
    const vocabulary = outputs[io.logits.name]!.dims.at(-1)!
    const perSequence = logits.length / rowsOf(io, batch)
    const row = (io.seqLen === undefined ? perSequence / vocabulary : position) - 1
    randoms.forEach((random, i) => {
      const token = drawToken(logits, i * perSequence + row * vocabulary, vocabulary, random, sampling)
      rows[i * seqLen + position] = BigInt(token)
    })
    if (cached) past = nextPast(io, outputs, position)
    onToken()
  }
}
