/** @file Perplexity of a model on windows of tokens. Knows no files and no text. */

import { performance } from 'node:perf_hooks'
import { feedsFor, rowsOf } from '../decoder/feeds.ts'
import { checkSeqLen, type ModelIo } from '../decoder/model-io.ts'
import { internalError, QuantError } from '../errors.ts'
import { readFloats } from '../kernels/float16.ts'
import type { Session } from '../kernels/session.ts'
import { batchFor, withBatch } from './batch.ts'
import { logSumExp } from './logits.ts'

export interface PerplexityOptions {
  /** Windows run at once; chosen by the size of the logits when absent, by the file where it fixes their number. */
  readonly batch?: number | undefined
  /** Called after every run with the windows that are done, of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

export interface Perplexity {
  /** exp(meanLoss) */
  readonly perplexity: number
  /** Mean of -log p(token | the tokens of its window before it), natural logarithm. */
  readonly meanLoss: number
  /** Tokens that were predicted: windows x (window length - 1). */
  readonly tokens: number
  readonly windows: number
  readonly elapsedMs: number
}

/** Sum of -log softmax(logits[t])[tokens[t + 1]] over t = 0 .. seqLen - 2 of one window. `start`: its first logit. */
function windowLoss(logits: Float32Array, start: number, vocabulary: number, tokens: BigInt64Array): number {
  let loss = 0
  for (let t = 0; t + 1 < tokens.length; t++) {
    const row = start + t * vocabulary
    loss += logSumExp(logits, row, vocabulary) - logits[row + Number(tokens[t + 1])]!
  }
  return loss
}

/**
 * Perplexity as the GPTQ and OmniQuant evaluations have it: each window starts with nothing before it, every token but
 * the first is predicted, the mean is over all of them. The softmax is in float64.
 * @param windows token ids, all of one length (at least 2), as `evaluationWindows` gives them.
 * @throws E_SEQ_LEN, E_CALIBRATION (a token outside the vocabulary), E_RUNTIME.
 */
export async function perplexity(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  windows: readonly BigInt64Array[],
  { batch, onProgress }: PerplexityOptions = {},
): Promise<Perplexity> {
  const started = performance.now()
  const seqLen = windows[0]?.length ?? 0
  if (seqLen < 2 || windows.some(window => window.length !== seqLen)) {
    throw internalError('perplexity needs windows of one length, at least 2 tokens')
  }
  checkSeqLen(io, seqLen)
  const loss = await withBatch(
    io.batch ?? batch,
    batchFor(seqLen * (io.vocabSize ?? 2 ** 17) * 4, windows.length),
    async atOnce => {
      let sum = 0
      for (let first = 0; first < windows.length; first += atOnce) {
        const group = windows.slice(first, first + atOnce)
        sum += await groupLoss(session, io, group, seqLen)
        onProgress?.(first + group.length, windows.length)
      }
      return sum
    },
  )
  const tokens = windows.length * (seqLen - 1)
  const meanLoss = loss / tokens
  return {
    perplexity: Math.exp(meanLoss),
    meanLoss,
    tokens,
    windows: windows.length,
    elapsedMs: performance.now() - started,
  }
}

/** Sum of the losses of windows that are run together. */
async function groupLoss(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  group: readonly BigInt64Array[],
  seqLen: number,
): Promise<number> {
  const tokens = new BigInt64Array(group.length * seqLen)
  group.forEach((window, i) => tokens.set(window, i * seqLen))
  const outputs = await session.run(feedsFor(io, tokens, group.length, seqLen), [io.logits.name])
  const tensor = outputs[io.logits.name]!
  const vocabulary = checkLogits(tensor.dims, rowsOf(io, group.length), seqLen, tokens)
  const logits = readFloats(tensor)
  let loss = 0
  group.forEach((window, i) => {
    loss += windowLoss(logits, i * seqLen * vocabulary, vocabulary, window)
  })
  return loss
}

/** The size of the vocabulary, once logits are [batch, seqLen, vocabulary] and every token is inside it. */
function checkLogits(dims: readonly number[], batch: number, seqLen: number, tokens: BigInt64Array): number {
  const [rows, positions, vocabulary] = dims
  if (dims.length !== 3 || rows !== batch || positions !== seqLen || vocabulary === undefined) {
    throw new QuantError(
      'E_INPUTS',
      `logits for [${batch}, ${seqLen}] tokens came as [${dims.join(', ')}]: not one row for every position`,
      'The file may compute the last position only: export one that gives logits for all of them.',
    )
  }
  const wrong = tokens.find(token => token < 0n || token >= BigInt(vocabulary))
  if (wrong !== undefined) {
    throw new QuantError(
      'E_CALIBRATION',
      `token ${wrong} is outside the model's vocabulary of ${vocabulary}`,
      'The tokens belong to another model: encode the text with the tokenizer of this one.',
    )
  }
  return vocabulary
}
