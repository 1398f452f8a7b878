/** @file The model writes its own calibration text. Knows no files. */

import { option } from '../option-mark.ts'
import { checkSeqLen, hasCache, type ModelIo } from '../decoder/model-io.ts'
import { SequenceBatch } from '../decoder/sequence-batch.ts'
import { QuantError } from '../errors.ts'
import { byteLength } from '../graph/dtype.ts'
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
  /** First token of every sample, and before every piece: `io.bosTokenId` when absent, a random one each where that is not known either. */
  readonly bosTokenId?: number | undefined
  /** Most tokens of a piece (default: PIECE). */
  readonly piece?: number | undefined
  /** Pieces written at once; chosen by the size of the cache and the logits when absent, by the file where it fixes their number. */
  readonly batch?: number | undefined
  /** Called after every run with the tokens that are written, of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/**
 * Most tokens of a piece. A sample is written in pieces that know nothing of each other. With a cache they are short because every further
 * token reads and copies the keys and values of those before it; without, because every token runs its whole piece again. docs/speed.md
 * has the times, and what short pieces do to accuracy.
 */
const PIECE = { cached: 128, plain: 16 } as const

/** Most pieces in one run: more at once need more time for each token, because the caches of the processor hold no more. */
const MOST_AT_ONCE = 64

/** Bytes one piece of `length` tokens brings back per run, at its longest. */
function bytesPerPiece(io: ModelIo, vocabulary: number, length: number): number {
  if (!hasCache(io)) return (io.seqLen ?? length) * vocabulary * 4
  const cache = io.past.reduce((sum, port) => sum + byteLength(port.dtype, port.heads * port.headDim * length), 0)
  return cache + vocabulary * 4
}

/** Tokens of a sample from `start` on, written in one go. */
interface Piece {
  /** Number of the piece among those of all samples, which its random numbers follow from. */
  readonly index: number
  readonly sample: number
  readonly start: number
  readonly length: number
}

/** Places of the pieces of all samples: nearly equal, at most `most` tokens each. The first token of a sample is given. */
function cut(samples: number, seqLen: number, most: number): Piece[] {
  const count = Math.max(1, Math.ceil((seqLen - 1) / most))
  const edge = (k: number) => 1 + Math.floor((k * (seqLen - 1)) / count)
  return Array.from({ length: samples * count }, (_, index) => {
    const [sample, k] = [Math.floor(index / count), index % count]
    return { index, sample, start: edge(k), length: edge(k + 1) - edge(k) }
  })
}

/** The token that pieces begin after: begin of text, or where it is not known a random one for each. @throws E_CALIBRATION */
function firstToken(io: ModelIo, bosTokenId: number | undefined, random: Random): bigint {
  const vocabulary = io.vocabSize
  if (bosTokenId !== undefined && (vocabulary === undefined || bosTokenId < vocabulary)) return BigInt(bosTokenId)
  if (bosTokenId === undefined && vocabulary !== undefined) return BigInt(random.int(vocabulary))
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
 * A sample is a first token and pieces of text, one after the other. Each piece is written after a first token of its own, which
 * later pieces leave out. As many pieces as memory allows are written at once, and no token that is not used. With a KV cache that the
 * file gives back, a token costs one run over one position; without, a run over the piece so far.
 * A sample depends on `seed`, its number and `seqLen` only, not on what is written beside it (but for rounding in onnxruntime).
 * @throws E_SEQ_LEN, E_CALIBRATION (nothing known to start from), E_RUNTIME.
 */
export async function generateTokens(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  options: GenerateOptions,
): Promise<CalibrationSamples> {
  const { samples, seqLen, seed, bosTokenId = io.bosTokenId, onProgress } = options
  checkSeqLen(io, seqLen)
  const piece = options.piece ?? (hasCache(io) ? PIECE.cached : PIECE.plain)
  const pieces = cut(samples, seqLen, piece)
  const lengths = [...new Set(pieces.map(({ length }) => length))]
  const bytes = bytesPerPiece(io, io.vocabSize ?? 2 ** 17, Math.min(piece, seqLen))
  const tokens = new BigInt64Array(samples * seqLen)
  for (const { index, sample, start } of pieces)
    if (start === 1) tokens[sample * seqLen] = firstToken(io, bosTokenId, new Random(seed, index))
  await withBatch(io.batch ?? options.batch, batchFor(bytes, pieces.length, MOST_AT_ONCE), async batch => {
    let done = 0
    const onTokens = (count: number) => onProgress?.((done += count), samples * (seqLen - 1))
    for (const length of lengths) {
      const alike = pieces.filter(each => each.length === length)
      for (let i = 0; i < alike.length; i += batch)
        await writePieces(session, io, alike.slice(i, i + batch), tokens, options, onTokens)
    }
  })
  return { tokens, samples, seqLen }
}

/** Writes pieces of one length to their places in `tokens` [samples, seqLen]. */
async function writePieces(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  pieces: readonly Piece[],
  tokens: BigInt64Array,
  options: GenerateOptions,
  onTokens: (count: number) => void,
): Promise<void> {
  const { seqLen, seed, bosTokenId = io.bosTokenId } = options
  const randoms = pieces.map(({ index }) => new Random(seed, index))
  const fed = BigInt64Array.from(randoms, random => firstToken(io, bosTokenId, random))
  const batch = new SequenceBatch(session, io, pieces.length)
  for (let t = 0; t < pieces[0]!.length; t++) {
    const { logits, vocabulary, startOf } = await batch.append(fed)
    pieces.forEach(({ sample, start }, i) => {
      fed[i] = BigInt(drawToken(logits, startOf(i), vocabulary, randoms[i]!, options))
      tokens[sample * seqLen + start + t] = fed[i]!
    })
    onTokens(pieces.length)
  }
}
