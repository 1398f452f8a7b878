/** @file Texts too long to be tokenized whole: only the parts that are needed are read. Knows no model. */

import { option } from '../option-mark.ts'
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { extname } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { parseJsonl } from './jsonl.ts'
import { Random } from './rng.ts'

/**
 * Texts up to this size are tokenized whole: each MB takes 1 to 6 s and some 50 MB of memory. The training text of WikiText-2, with which
 * most models are calibrated, has 11 MB.
 */
const WHOLE_BYTES = 16 * 2 ** 20

/** Largest part for one sample; a line of a .jsonl file has to fit in. */
const MAX_SAMPLE_BYTES = 16 * 2 ** 20

/** Largest part for an evaluation, which takes about four hours. */
const MAX_BEGINNING_BYTES = 64 * 2 ** 20

/** Size of the first try, in bytes per token: most tokens have fewer. */
const BYTES_PER_TOKEN = 8

/** Tokens at the end of a part that are dropped: near a cut, tokens may differ from those of the whole text. */
const MARGIN_TOKENS = 64

/** Bytes that are read at once in search of the end of a line. */
const SEARCH_BYTES = 2 ** 16

const NEWLINE = 0x0a

const SPACE = 0x20

/** Token ids of a text. */
export type Encode = (text: string) => readonly number[]

export interface Places {
  readonly samples: number
  /** Tokens of each. */
  readonly seqLen: number
  readonly seed: number
}

/** Part of a file: whole characters, or whole lines of a .jsonl file. */
interface Part {
  readonly content: string | number[][]
  /** True where the file ends with this part. */
  readonly last: boolean
}

/** Endings of files with text in them. */
const TEXTS = ['.txt', '.md', '.jsonl']

const isJsonl = (path: string): boolean => extname(path).toLowerCase() === '.jsonl'

/** True for a continuation byte of UTF-8. */
const goesOn = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80

/** @throws E_CALIBRATION when it is not UTF-8. */
export function decodeText(path: string, bytes: Uint8Array): string {
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

/** An open file of text. */
class TextFile {
  readonly path: string
  readonly sizeBytes: number
  private readonly descriptor: number
  /** True for .jsonl, whose lines must not be cut. */
  private readonly lines: boolean

  constructor(path: string) {
    this.path = path
    this.lines = isJsonl(path)
    this.sizeBytes = statSync(path).size
    this.descriptor = openSync(path, 'r')
  }

  close(): void {
    closeSync(this.descriptor)
  }

  private read(start: number, length: number): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, this.sizeBytes - start)))
    return bytes.subarray(0, readSync(this.descriptor, bytes, 0, bytes.length, start))
  }

  /** The first place from `offset` on where a line begins; where none is near, a word or else a character. */
  private begin(offset: number): number {
    if (offset === 0) return 0
    for (let start = offset; start < this.sizeBytes; start += SEARCH_BYTES) {
      const bytes = this.read(start, SEARCH_BYTES)
      const newline = bytes.indexOf(NEWLINE)
      if (newline >= 0) return start + newline + 1
      if (this.lines) continue
      const space = bytes.indexOf(SPACE)
      return start + (space >= 0 ? space + 1 : bytes.findIndex(byte => !goesOn(byte)))
    }
    return this.sizeBytes
  }

  /** Length of the bytes without the line, or where there is only one the character, that is cut at their end. */
  private withoutCut(bytes: Buffer): number {
    const lines = bytes.lastIndexOf(NEWLINE) + 1
    if (lines > 0 || this.lines) return lines
    return Math.max(
      0,
      bytes.findLastIndex(byte => !goesOn(byte)),
    )
  }

  /** A part of at most `length` bytes that begins near `offset`. @throws E_CALIBRATION */
  part(offset: number, length: number): Part {
    const start = this.begin(offset)
    const bytes = this.read(start, length)
    const last = start + bytes.length >= this.sizeBytes
    const text = decodeText(this.path, last ? bytes : bytes.subarray(0, this.withoutCut(bytes)))
    return { content: this.lines ? parseJsonl(this.path, text, `after byte ${start}, line`) : text, last }
  }

  /** Its tokens. @throws E_CALIBRATION */
  tokens(offset: number, length: number, encode: Encode): { readonly ids: readonly number[]; readonly last: boolean } {
    const { content, last } = this.part(offset, length)
    if (typeof content === 'string') return { ids: content === '' ? [] : encode(content), last }
    throw new QuantError('E_CALIBRATION', `${this.path} has text, but token ids near byte ${offset}`)
  }
}

function withFile<T>(path: string, use: (file: TextFile) => T): T {
  let file: TextFile
  try {
    file = new TextFile(path)
  } catch (error) {
    throw new QuantError('E_FILE_NOT_FOUND', `cannot read ${path}: ${messageOf(error)}`)
  }
  try {
    return use(file)
  } finally {
    file.close()
  }
}

/** True for a text, not token ids, that is too long to be tokenized whole. @throws E_CALIBRATION */
export function isLongText(path: string): boolean {
  if (!TEXTS.includes(extname(path).toLowerCase())) return false
  const stats = statSync(path, { throwIfNoEntry: false })
  if (!stats?.isFile() || stats.size <= WHOLE_BYTES) return false
  if (!isJsonl(path)) return true
  return withFile(path, file => {
    for (let length = SEARCH_BYTES; length <= MAX_SAMPLE_BYTES; length *= 2) {
      const { content } = file.part(0, length)
      if (content !== '') return typeof content === 'string'
    }
    return true
  })
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

/**
 * Tokens of samples from places all over the text, chosen by seed: each begins with a line, or where lines are long with a word.
 * @returns [samples, seqLen], row after row. @throws E_FILE_NOT_FOUND, E_CALIBRATION, E_TOKENIZER
 */
export function samplesOfLongText(path: string, encode: Encode, { samples, seqLen, seed }: Places): BigInt64Array {
  const chosen = new BigInt64Array(samples * seqLen)
  const random = new Random(seed)
  let length = Math.min(seqLen * BYTES_PER_TOKEN, MAX_SAMPLE_BYTES)
  /** A sample from `offset` on, or from further before where the text ends too early. */
  const sample = (file: TextFile, offset: number): readonly number[] => {
    for (;;) {
      const { ids, last } = file.tokens(offset, length, encode)
      if (ids.length >= seqLen + (last ? 0 : MARGIN_TOKENS)) return ids.slice(0, seqLen)
      const latest = Math.max(0, file.sizeBytes - length)
      if (last && offset > latest) offset = latest
      else if (length < MAX_SAMPLE_BYTES) length = Math.min(2 * length, MAX_SAMPLE_BYTES)
      else {
        throw new QuantError(
          'E_CALIBRATION',
          `${path}: ${megabytes(length)} from byte ${offset} on have ${ids.length} tokens, but one sample needs ${seqLen}`,
          `Give a text of sentences and lines, or a shorter ${option('seqLen')}.`,
        )
      }
    }
  }
  withFile(path, file => {
    for (let i = 0; i < samples; i++) {
      chosen.set(sample(file, random.int(file.sizeBytes)).map(BigInt), i * seqLen)
    }
  })
  return chosen
}

/**
 * The first `count` tokens of the text, or all it has if they are fewer.
 * @throws E_FILE_NOT_FOUND, E_TOKENIZER; E_CALIBRATION when they are not in its first 64 MiB.
 */
export function beginningOfLongText(path: string, encode: Encode, count: number): readonly number[] {
  return withFile(path, file => {
    for (let length = count * BYTES_PER_TOKEN; ; length *= 2) {
      const { ids, last } = file.tokens(0, Math.min(length, MAX_BEGINNING_BYTES), encode)
      if (last || ids.length >= count + MARGIN_TOKENS) return ids.slice(0, count)
      if (length < MAX_BEGINNING_BYTES) continue
      throw new QuantError(
        'E_CALIBRATION',
        `the first ${megabytes(MAX_BEGINNING_BYTES)} of ${path} have ${ids.length} tokens, but ${count} are asked for`,
        `Use fewer ${option('windows')}.`,
      )
    }
  })
}
