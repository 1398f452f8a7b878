/** @file Files of text or token ids -> tokens -> calibration samples and evaluation windows. Knows no model. */

import { option } from '../option-mark.ts'
import { extname } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { readBounded } from '../files/bounded-file.ts'
import { readNpy } from '../files/npy.ts'
import { parseJsonl } from './jsonl.ts'
import { beginningOfLongText, decodeText, isLongText, samplesOfLongText } from './long-text.ts'
import { Random } from './rng.ts'
import type { Tokenizer } from './tokenizer.ts'

/** Tokens of a file: one stream, or rows of equal length, cut beforehand. */
export interface TokenSource {
  readonly path: string
  /** Row after row. */
  readonly tokens: BigInt64Array
  /** [tokens], or [samples, tokens of each]. */
  readonly dims: readonly [number] | readonly [number, number]
}

/** Equal lengths, no padding. */
export interface CalibrationSamples {
  /** [samples, seqLen], row after row. */
  readonly tokens: BigInt64Array
  readonly samples: number
  readonly seqLen: number
}

export interface SampleOptions {
  readonly samples: number
  /** Tokens per sample. */
  readonly seqLen: number
  readonly seed: number
  /** Size of the vocabulary, where it is known: every token must be below it. */
  readonly vocabSize?: number | undefined
}

/** Most bytes of a file that is read whole: tokenizing 64 MiB of text takes 3 GB of memory. */
const MAX_TEXT_BYTES = 64 * 2 ** 20

function readText(path: string): string {
  let bytes: Uint8Array
  try {
    bytes = readBounded(path, MAX_TEXT_BYTES)
  } catch (error) {
    throw new QuantError(
      'E_FILE_NOT_FOUND',
      `cannot read ${path}: ${messageOf(error)}`,
      `Give a smaller part of it, or token ids as .npy. To evaluate with ${option('windows', 'N')} reads no more of a text than it needs.`,
    )
  }
  return decodeText(path, bytes)
}

function stream(path: string, ids: readonly number[]): TokenSource {
  return { path, tokens: BigInt64Array.from(ids, BigInt), dims: [ids.length] }
}

function loadJsonl(path: string, encode: (text: string) => readonly number[]): TokenSource {
  const content = parseJsonl(path, readText(path))
  if (typeof content === 'string') return stream(path, content === '' ? [] : encode(content))
  const width = content[0]!.length
  const source = stream(path, content.flat())
  return content.every(row => row.length === width) ? { ...source, dims: [content.length, width] } : source
}

function loadNpyIds(path: string): TokenSource {
  const { dtype, dims, data } = readNpy(path)
  const [rows, width] = dims
  if (dtype === 'float32' || rows === undefined || dims.length > 2) {
    throw new QuantError(
      'E_CALIBRATION',
      `${path} holds [${dims.join(', ')}] of ${dtype}, not token ids`,
      'Save integers of shape [tokens] or [samples, tokens].',
    )
  }
  const tokens = data instanceof BigInt64Array ? data : BigInt64Array.from(data, BigInt)
  const negative = tokens.findIndex(id => id < 0n)
  if (negative >= 0) {
    throw new QuantError('E_CALIBRATION', `${path}: token ${tokens[negative]} at position ${negative} is negative`)
  }
  return { path, tokens, dims: width === undefined ? [rows] : [rows, width] }
}

/**
 * Tokens of a file: .txt or .md (the whole text), .jsonl (texts, joined by a blank line, or ids), .npy (ids).
 * @param tokenizer called only when there is text to encode.
 * @param first tokens that are needed, from the beginning on: of a long text no more are read (default: all).
 * @throws E_FILE_NOT_FOUND; E_CALIBRATION, with the line number for .jsonl; E_TOKENIZER.
 */
export function loadTokens(path: string, tokenizer: () => Tokenizer, first?: number): TokenSource {
  let loaded: Tokenizer | undefined
  const encode = (text: string) => (loaded ??= tokenizer()).encode(text)
  if (first !== undefined && isLongText(path)) return stream(path, beginningOfLongText(path, encode, first))
  const extension = extname(path).toLowerCase()
  switch (extension) {
    case '.txt':
    case '.md':
      return stream(path, encode(readText(path)))
    case '.jsonl':
      return loadJsonl(path, encode)
    case '.npy':
      return loadNpyIds(path)
    default:
      throw new QuantError(
        'E_CALIBRATION',
        `${path}: files ending in "${extension}" are not known as text or tokens`,
        'Use .txt or .md (text), .jsonl (texts or token ids) or .npy (token ids).',
      )
  }
}

function checkVocabulary(path: string, tokens: BigInt64Array, vocabSize: number | undefined): void {
  if (vocabSize === undefined) return
  const limit = BigInt(vocabSize)
  const wrong = tokens.findIndex(token => token >= limit)
  if (wrong < 0) return
  throw new QuantError(
    'E_CALIBRATION',
    `${path}: token ${tokens[wrong]} is outside the model's vocabulary of ${vocabSize}`,
    'The tokens belong to another model: encode the text with the tokenizer of this one.',
  )
}

/**
 * The samples a model is calibrated with.
 * Rows [S, T] are taken in their own order: the first `samples` rows, the first `seqLen` tokens of each.
 * A stream is cut into windows that start anywhere, by seed, and may overlap: what the loaders of GPTQ (arXiv 2210.17323)
 * and OmniQuant (arXiv 2308.13137) do with WikiText, except that the last possible start is not left out.
 * @throws E_CALIBRATION when there are too few tokens, or one is outside the vocabulary.
 */
export function calibrationSamples(source: TokenSource, options: SampleOptions): CalibrationSamples {
  const { samples, seqLen, seed, vocabSize } = options
  const { path, dims, tokens } = source
  const chosen = new BigInt64Array(samples * seqLen)
  const [rows, width] = dims
  if (width !== undefined) {
    if (rows < samples || width < seqLen) {
      throw new QuantError(
        'E_CALIBRATION',
        `${path} has ${rows} samples of ${width} tokens, but ${samples} of ${seqLen} are needed`,
        `Use ${option('samples', Math.min(rows, samples))} ${option('seqLen', Math.min(width, seqLen))}, or give more data.`,
      )
    }
    for (let i = 0; i < samples; i++) chosen.set(tokens.subarray(i * width, i * width + seqLen), i * seqLen)
  } else {
    if (rows < seqLen) {
      throw new QuantError(
        'E_CALIBRATION',
        `${path} has ${rows} tokens, but one sample needs ${seqLen}`,
        rows < 2 ? 'Give a longer text.' : `Give a longer text, or use ${option('seqLen', rows)}.`,
      )
    }
    const random = new Random(seed)
    for (let i = 0; i < samples; i++) {
      const start = random.int(rows - seqLen + 1)
      chosen.set(tokens.subarray(start, start + seqLen), i * seqLen)
    }
  }
  checkVocabulary(path, chosen, vocabSize)
  return { tokens: chosen, samples, seqLen }
}

/**
 * Samples from a file: chosen from all of its tokens, or of a text that is too long for that from places chosen by seed (long-text.ts).
 * @throws what loadTokens and calibrationSamples throw.
 */
export function loadSamples(path: string, tokenizer: () => Tokenizer, options: SampleOptions): CalibrationSamples {
  if (!isLongText(path)) return calibrationSamples(loadTokens(path, tokenizer), options)
  const { encode } = tokenizer()
  const tokens = samplesOfLongText(path, text => encode(text), options)
  checkVocabulary(path, tokens, options.vocabSize)
  return { tokens, samples: options.samples, seqLen: options.seqLen }
}

/**
 * Full windows of a stream, each `stride` tokens after the one before it; the rest at the end is left out.
 * @param stride default: no overlap.
 * @throws E_CALIBRATION when there is not one full window.
 */
export function evaluationWindows(tokens: BigInt64Array, seqLen: number, stride: number = seqLen): BigInt64Array[] {
  const count = Math.floor((tokens.length - seqLen) / stride) + 1
  if (count < 1) {
    throw new QuantError(
      'E_CALIBRATION',
      `there are ${tokens.length} tokens to evaluate on, but one window needs ${seqLen}`,
      `Give a longer text, or shorter windows with ${option('seqLen')}.`,
    )
  }
  return Array.from({ length: count }, (_, i) => tokens.subarray(i * stride, i * stride + seqLen))
}
