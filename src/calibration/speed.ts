/** @file Speed of a model: reading a window of tokens at once (prefill), and one token after the other (decode). Knows no files. */

import { performance } from 'node:perf_hooks'
import { checkSeqLen, type ModelIo } from '../decoder/model-io.ts'
import type { Session } from '../kernels/session.ts'
import { Decoding } from './decoding.ts'
import { Random } from './rng.ts'

export interface Speed {
  /** Tokens per second when a window of `tokens` is read in one run, one sequence: median of several runs after a first one. */
  readonly prefillTokensPerSecond: number
  /** Tokens per second one by one, behind half a window: median of the steps after a first one. */
  readonly decodeTokensPerSecond: number
  /** False where the file gives no cache back: each token is a run over all tokens before it. */
  readonly cached: boolean
  /** Length of the window. */
  readonly tokens: number
}

/** Bounds of a measurement: it ends when either is reached. */
const PREFILL = { runs: 8, ms: 1500 }
const DECODE = { runs: 64, ms: 1500 }

/** Vocabulary of a model that does not say: every decoder has more tokens. */
const FEWEST_TOKENS = 2

/** Median time of one call, after a first one that is not counted. @param most calls there may be, the first included. */
async function medianMs(call: () => Promise<unknown>, limits: typeof PREFILL, most: number): Promise<number> {
  if (most > 1) await call()
  const times: number[] = []
  const began = performance.now()
  do {
    const started = performance.now()
    await call()
    times.push(performance.now() - started)
  } while (times.length < Math.min(limits.runs, most - 1) && performance.now() - began < limits.ms)
  times.sort((a, b) => a - b)
  return times[times.length >> 1]!
}

/**
 * Measures the speed of one sequence. The tokens are drawn by a fixed seed: the time of a run does not depend on the text, but for
 * experts.
 * @param seqLen tokens of the window, at least 2.
 * @throws E_SEQ_LEN, E_RUNTIME
 */
export async function measureSpeed(session: Pick<Session, 'run'>, io: ModelIo, seqLen: number): Promise<Speed> {
  checkSeqLen(io, seqLen)
  const random = new Random(0)
  const window = Array.from({ length: seqLen }, () => random.int(io.vocabSize ?? FEWEST_TOKENS))
  const prefillMs = await medianMs(() => new Decoding(session, io).append(window), PREFILL, Infinity)
  const decoding = new Decoding(session, io)
  const prompt = window.slice(0, seqLen >> 1)
  await decoding.append(prompt)
  const decodeMs = await medianMs(() => decoding.append([window[decoding.length]!]), DECODE, seqLen - prompt.length)
  return {
    prefillTokensPerSecond: (seqLen / prefillMs) * 1000,
    decodeTokensPerSecond: 1000 / decodeMs,
    cached: decoding.cached,
    tokens: seqLen,
  }
}
