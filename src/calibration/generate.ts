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
  /** Chosen by whether the model gives back its cache when absent. */
  readonly manner?: Manner | undefined
  /** Pieces written at once; chosen by the size of the cache and the logits when absent, by the file where it fixes their number. */
  readonly batch?: number | undefined
  /** Called after every run with the tokens that are written, of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/** The manner in which samples are written: in pieces that know nothing of each other. */
export interface Manner {
  /** Most tokens of a piece. */
  readonly piece: number
  /** Part of the pieces that is written. The others repeat these, so that samples differ in their order. */
  readonly share: number
}

/**
 * With a cache pieces are short because every further token reads and copies the keys and values of those before it. Without, every token
 * runs its whole piece again, which is why fewer are written. docs/speed.md has the times, docs/accuracy.md what shorter pieces cost.
 */
const MANNERS: { readonly cached: Manner; readonly plain: Manner } = {
  cached: { piece: 128, share: 1 },
  plain: { piece: 32, share: 1 / 4 },
}

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
 * file gives back, a token costs one run over one position; without, a run over the piece so far, and pieces are used several times.
 * A piece depends on `seed`, its number and `seqLen` only, not on what is written beside it (but for rounding in onnxruntime).
 * @throws E_SEQ_LEN, E_CALIBRATION (nothing known to start from), E_RUNTIME.
 */
export async function generateTokens(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  options: GenerateOptions,
): Promise<CalibrationSamples> {
  const { samples, seqLen, seed, bosTokenId = io.bosTokenId, onProgress } = options
  checkSeqLen(io, seqLen)
  const { piece, share } = options.manner ?? (hasCache(io) ? MANNERS.cached : MANNERS.plain)
  const pieces = cut(samples, seqLen, piece)
  const groups = [...new Set(pieces.map(({ length }) => length))].map(length => {
    const alike = pieces.filter(each => each.length === length)
    // Fewer than fill a run would cost about the same.
    const count = Math.max(Math.min(alike.length, MOST_AT_ONCE), Math.ceil(alike.length * share))
    return { written: alike.slice(0, count), repeated: alike.slice(count) }
  })
  const written = groups.flatMap(group => group.written)
  const total = written.reduce((sum, { length }) => sum + length, 0)
  const bytes = bytesPerPiece(io, io.vocabSize ?? 2 ** 17, Math.min(piece, seqLen))
  const tokens = new BigInt64Array(samples * seqLen)
  for (const { index, sample, start } of pieces)
    if (start === 1) tokens[sample * seqLen] = firstToken(io, bosTokenId, new Random(seed, index))
  await withBatch(io.batch ?? options.batch, batchFor(bytes, written.length, MOST_AT_ONCE), async batch => {
    let done = 0
    const onTokens = (count: number) => onProgress?.((done += count), total)
    for (const group of groups)
      for (let i = 0; i < group.written.length; i += batch)
        await writePieces(session, io, group.written.slice(i, i + batch), tokens, options, onTokens)
  })
  for (const group of groups) repeatPieces(group.written, group.repeated, tokens, seqLen, seed)
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

/** Fills places with written pieces of the same length: each as often as the others, in an order drawn anew for every round. */
function repeatPieces(
  written: readonly Piece[],
  places: readonly Piece[],
  tokens: BigInt64Array,
  seqLen: number,
  seed: number,
): void {
  let order: Piece[] = []
  for (const { index, sample, start, length } of places) {
    if (order.length === 0) order = new Random(seed, index).shuffled(written)
    const from = order.pop()!
    const at = from.sample * seqLen + from.start
    tokens.copyWithin(sample * seqLen + start, at, at + length)
  }
}
