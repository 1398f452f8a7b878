/** @file Files of text or token ids -> tokens -> calibration samples and evaluation windows. Knows no model. */

import { extname } from 'node:path'
import { messageOf, QuantError, shown } from '../errors.ts'
import { readBounded } from './bounded-file.ts'
import { readNpy } from './npy.ts'
import { Random } from './rng.ts'
import type { Tokenizer } from './tokenizer.ts'

/** Tokens of a file: one stream, or rows of equal length that somebody has cut already. */
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
  /** When known, every token that is used must be below it. */
  readonly vocabSize?: number | undefined
}

/** Between the texts of a .jsonl file, as GPTQ's and OmniQuant's loaders join the lines of WikiText. */
const TEXT_SEPARATOR = '\n\n'

/** A megabyte of text is some 250 000 tokens, as many as the largest calibration uses. */
const MAX_TEXT_BYTES = 64 * 2 ** 20

const LINE_HINT =
  'A line is {"text": "..."}, a string, {"input_ids": [1, 2, ...]} or an array of ids; one kind per file.'

function readText(path: string): string {
  let bytes: Uint8Array
  try {
    bytes = readBounded(path, MAX_TEXT_BYTES)
  } catch (error) {
    throw new QuantError(
      'E_FILE_NOT_FOUND',
      `cannot read ${path}: ${messageOf(error)}`,
      'Give a file of text; a part of a large one is enough.',
    )
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new QuantError(
      'E_CALIBRATION',
      `${path} is not UTF-8 text`,
      'Convert it to UTF-8, or give token ids as .npy.',
    )
  }
}

function stream(path: string, ids: readonly number[]): TokenSource {
  return { path, tokens: BigInt64Array.from(ids, BigInt), dims: [ids.length] }
}

/** One line of a .jsonl file: a text, token ids, or the reason why it is neither. */
function parseLine(line: string): string | number[] | { readonly problem: string } {
  let json: unknown
  try {
    json = JSON.parse(line)
  } catch (error) {
    return { problem: `is not JSON (${messageOf(error)})` }
  }
  const object =
    typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Record<string, unknown>) : {}
  const value = object['text'] ?? object['input_ids'] ?? json
  if (typeof value === 'string') return value
  if (!Array.isArray(value)) return { problem: 'has neither text nor token ids' }
  const wrong = value.find(id => !Number.isSafeInteger(id) || id < 0)
  return wrong === undefined ? value : { problem: `has ${shown(wrong)} among its token ids` }
}

function loadJsonl(path: string, tokenizer: () => Tokenizer): TokenSource {
  const texts: string[] = []
  const rows: number[][] = []
  readText(path)
    .split('\n')
    .forEach((line, i) => {
      if (line.trim() === '') return
      const parsed = parseLine(line)
      const fail = (what: string) => new QuantError('E_CALIBRATION', `${path}: line ${i + 1} ${what}`, LINE_HINT)
      if (typeof parsed === 'string') texts.push(parsed)
      else if (Array.isArray(parsed)) rows.push(parsed)
      else throw fail(parsed.problem)
      if (texts.length > 0 && rows.length > 0) {
        throw fail(
          `has ${typeof parsed === 'string' ? 'text, earlier lines token ids' : 'token ids, earlier lines text'}`,
        )
      }
    })
  if (rows.length === 0) return stream(path, texts.length === 0 ? [] : tokenizer().encode(texts.join(TEXT_SEPARATOR)))
  const width = rows[0]!.length
  const source = stream(path, rows.flat())
  return rows.every(row => row.length === width) ? { ...source, dims: [rows.length, width] } : source
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
 * @throws E_FILE_NOT_FOUND; E_CALIBRATION, with the line number for .jsonl; E_TOKENIZER.
 */
export function loadTokens(path: string, tokenizer: () => Tokenizer): TokenSource {
  const extension = extname(path).toLowerCase()
  switch (extension) {
    case '.txt':
    case '.md': {
      const text = readText(path)
      return stream(path, tokenizer().encode(text))
    }
    case '.jsonl':
      return loadJsonl(path, tokenizer)
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
        `Use --samples ${Math.min(rows, samples)} --seq-len ${Math.min(width, seqLen)}, or give more data.`,
      )
    }
    for (let i = 0; i < samples; i++) chosen.set(tokens.subarray(i * width, i * width + seqLen), i * seqLen)
  } else {
    if (rows < seqLen) {
      throw new QuantError(
        'E_CALIBRATION',
        `${path} has ${rows} tokens, but one sample needs ${seqLen}`,
        rows < 2 ? 'Give a longer text.' : `Give a longer text, or use --seq-len ${rows}.`,
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
 * Full windows of a stream, one after the other, without overlap; the rest at the end is left out.
 * @throws E_CALIBRATION when there is not one full window.
 */
export function evaluationWindows(tokens: BigInt64Array, seqLen: number): BigInt64Array[] {
  const count = Math.floor(tokens.length / seqLen)
  if (count === 0) {
    throw new QuantError(
      'E_CALIBRATION',
      `there are ${tokens.length} tokens to evaluate on, but one window needs ${seqLen}`,
      'Give a longer text, or shorter windows with --seq-len.',
    )
  }
  return Array.from({ length: count }, (_, i) => tokens.subarray(i * seqLen, (i + 1) * seqLen))
}
