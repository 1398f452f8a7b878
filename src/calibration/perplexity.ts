/** @file Perplexity of a model on windows of tokens, alone or beside a reference. Knows no files and no text. */

import { performance } from 'node:perf_hooks'
import { feedsFor, rowsOf } from '../decoder/feeds.ts'
import { checkSeqLen, type ModelIo } from '../decoder/model-io.ts'
import { internalError, QuantError } from '../errors.ts'
import { readFloats } from '../kernels/float16.ts'
import type { Session } from '../kernels/session.ts'
import { batchFor, withBatch } from './batch.ts'
import {
  type Divergence,
  divergenceAt,
  lossAt,
  meanOverWindows,
  summarizeDivergence,
  type WindowLogits,
} from './measures.ts'
import { vocabularyError } from './vocabulary.ts'

export interface PerplexityOptions {
  /** Tokens by which a window starts after the one before it: the last so many of each are predicted (default: the window's length, no overlap). */
  readonly stride?: number | undefined
  /** Windows run at once; chosen by the size of the logits when absent, by the file where it fixes their number. */
  readonly batch?: number | undefined
  /** Called after every run with the windows that are done, of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

export interface Perplexity {
  /** exp(meanLoss) */
  readonly perplexity: number
  /** perplexity x meanLossError: the first-order error of the exponential. */
  readonly perplexityError: number
  /** Mean of -log p(token | the tokens of its window before it), natural logarithm. */
  readonly meanLoss: number
  /** Standard error of that mean over windows (`meanOverWindows`); NaN with one window. */
  readonly meanLossError: number
  /** Tokens that were predicted: all but the first of each window, or of overlapping windows those that are new. */
  readonly tokens: number
  readonly windows: number
  /** Time in onnxruntime. */
  readonly elapsedMs: number
}

/** A decoder that can be run. */
export interface Decoder {
  /** Name for messages. */
  readonly name: string
  readonly session: Pick<Session, 'run'>
  readonly io: ModelIo
}

/** Perplexity of a model and of the reference, and how far the model is from it. */
export interface Comparison {
  readonly model: Perplexity
  readonly reference: Perplexity
  readonly divergence: Divergence
}

/** Positions of a window whose next token is predicted: from `first` of window `index` to its last but one. */
const firstPosition = (index: number, seqLen: number, stride: number): number =>
  index === 0 ? 0 : Math.max(0, seqLen - stride - 1)

/**
 * Perplexity as the GPTQ and OmniQuant evaluations have it: each window starts with nothing before it, every token but
 * the first is predicted, the mean is over all of them. With a stride, windows overlap and only tokens that are new are predicted. The
 * softmax is in float64.
 * @param windows token ids, all of one length (at least 2), as `evaluationWindows` gives them.
 * @throws E_SEQ_LEN, E_CALIBRATION (a token outside the vocabulary), E_RUNTIME.
 */
export async function perplexity(
  session: Pick<Session, 'run'>,
  io: ModelIo,
  windows: readonly BigInt64Array[],
  options: PerplexityOptions = {},
): Promise<Perplexity> {
  const losses = new Losses(windows, options.stride)
  const [elapsedMs] = await overWindows([{ name: 'the model', session, io }], windows, options, (index, [logits]) =>
    losses.add(index, logits!),
  )
  return losses.summary(elapsedMs!)
}

/**
 * Perplexities of a model and a reference on the same windows, and the divergence of the model from the reference at every predicted token.
 * Both run window by window: no more logits are in memory than those of one run of each.
 * @throws what `perplexity` throws; E_VOCABULARY when their logits differ in width.
 */
export async function compareWith(
  reference: Decoder,
  model: Decoder,
  windows: readonly BigInt64Array[],
  options: PerplexityOptions = {},
): Promise<Comparison> {
  const [losses, referenceLosses] = [new Losses(windows, options.stride), new Losses(windows, options.stride)]
  const { counts, tokens, seqLen } = losses
  const kl = new Float64Array(tokens)
  const klSums = new Float64Array(windows.length)
  const agreements = new Float64Array(windows.length)
  const [modelMs, referenceMs] = await overWindows([model, reference], windows, options, (index, [q, p]) => {
    losses.add(index, q!)
    referenceLosses.add(index, p!)
    klSums[index] = 0
    agreements[index] = 0
    const count = counts[index]!
    const place = index === 0 ? 0 : counts[0]! + (index - 1) * count
    for (let i = 0; i < count; i++) {
      const divergence = divergenceAt(p!, q!, seqLen - 1 - count + i)
      kl[place + i] = divergence.kl
      klSums[index]! += divergence.kl
      if (divergence.sameTop) agreements[index]!++
    }
  })
  return {
    model: losses.summary(modelMs!),
    reference: referenceLosses.summary(referenceMs!),
    divergence: summarizeDivergence(kl, klSums, agreements, counts),
  }
}

/** Losses of windows, added in any order; a window that is added again replaces what was there. */
class Losses {
  readonly seqLen: number
  /** Predicted tokens of each window. */
  readonly counts: readonly number[]
  /** Predicted tokens of all. */
  readonly tokens: number
  private readonly sums: Float64Array
  private readonly windows: readonly BigInt64Array[]

  constructor(windows: readonly BigInt64Array[], stride?: number) {
    const seqLen = windows[0]?.length ?? 0
    if (seqLen < 2 || windows.some(window => window.length !== seqLen)) {
      throw internalError('perplexity needs windows of one length, at least 2 tokens')
    }
    this.seqLen = seqLen
    this.windows = windows
    this.counts = windows.map((_, i) => seqLen - 1 - firstPosition(i, seqLen, stride ?? seqLen))
    this.tokens = this.counts.reduce((sum, count) => sum + count, 0)
    this.sums = new Float64Array(windows.length)
  }

  add(index: number, logits: WindowLogits): void {
    const window = this.windows[index]!
    let sum = 0
    for (let t = this.seqLen - 1 - this.counts[index]!; t + 1 < this.seqLen; t++)
      sum += lossAt(logits, t, Number(window[t + 1]))
    this.sums[index] = sum
  }

  summary(elapsedMs: number): Perplexity {
    const { mean, error } = meanOverWindows(this.sums, this.counts)
    return {
      perplexity: Math.exp(mean),
      perplexityError: Math.exp(mean) * error,
      meanLoss: mean,
      meanLossError: error,
      tokens: this.tokens,
      windows: this.windows.length,
      elapsedMs,
    }
  }
}

/** The smallest number of sequences that a file fixes. */
function fixedBatch(decoders: readonly Decoder[]): number | undefined {
  const fixed = decoders.flatMap(({ io }) => (io.batch === undefined ? [] : [io.batch]))
  return fixed.length === 0 ? undefined : Math.min(...fixed)
}

/**
 * Runs decoders over the same windows, a group of windows at a time.
 * @param visit gets the logits of a window, of each decoder. A window may come twice: a batch that cannot be run is tried again.
 * @returns milliseconds that each decoder took.
 */
async function overWindows(
  decoders: readonly Decoder[],
  windows: readonly BigInt64Array[],
  { batch, onProgress }: PerplexityOptions,
  visit: (index: number, logits: readonly WindowLogits[]) => void,
): Promise<number[]> {
  const seqLen = windows[0]!.length
  for (const { io } of decoders) checkSeqLen(io, seqLen)
  const bytes = decoders.reduce((sum, { io }) => sum + seqLen * (io.vocabSize ?? 2 ** 17) * 4, 0)
  return withBatch(fixedBatch(decoders) ?? batch, batchFor(bytes, windows.length), async atOnce => {
    const elapsed = decoders.map(() => 0)
    for (let first = 0; first < windows.length; first += atOnce) {
      const group = windows.slice(first, first + atOnce)
      const outputs: Omit<WindowLogits, 'start'>[] = []
      for (const [i, decoder] of decoders.entries()) {
        const started = performance.now()
        outputs.push(await logitsOf(decoder, group, seqLen))
        elapsed[i]! += performance.now() - started
      }
      checkWidths(decoders, outputs)
      group.forEach((_, i) =>
        visit(
          first + i,
          outputs.map(output => ({ ...output, start: i * seqLen * output.vocabulary })),
        ),
      )
      onProgress?.(first + group.length, windows.length)
    }
    return elapsed
  })
}

function checkWidths(decoders: readonly Decoder[], outputs: readonly { readonly vocabulary: number }[]): void {
  const other = outputs.findIndex(({ vocabulary }) => vocabulary !== outputs[0]!.vocabulary)
  if (other < 0) return
  const width = (i: number) => ({ model: decoders[i]!.name, vocabulary: outputs[i]!.vocabulary })
  throw vocabularyError(width(0), width(other))
}

/** Logits of windows that are run together, [windows, seqLen, vocabulary]. */
async function logitsOf(
  { session, io }: Decoder,
  group: readonly BigInt64Array[],
  seqLen: number,
): Promise<Omit<WindowLogits, 'start'>> {
  const tokens = new BigInt64Array(group.length * seqLen)
  group.forEach((window, i) => tokens.set(window, i * seqLen))
  const outputs = await session.run(feedsFor(io, tokens, group.length, seqLen), [io.logits.name])
  const tensor = outputs[io.logits.name]!
  const vocabulary = checkLogits(tensor.dims, rowsOf(io, group.length), seqLen, tokens)
  return { logits: readFloats(tensor), vocabulary }
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
