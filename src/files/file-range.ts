/** @file Ranges of files: named without being read, then read whole, in pieces, or into a given buffer. */

import { openSync, readSync } from 'node:fs'
import { messageOf, QuantError } from '../errors.ts'
import { closing } from './closing.ts'

/** A change of numbers on their way from a file to the reader. */
export interface Conversion {
  /** Bytes in the file for each byte that is read. */
  readonly ratio: number
  /** Bytes to read, made of bytes of the file, which are whole elements. */
  convert(bytes: Uint8Array): Uint8Array
}

/** Bytes of a tensor on disk. `file` is an absolute path. */
export interface FileRange {
  readonly file: string
  /** First byte in the file. */
  readonly offset: number
  /** Bytes that are read. */
  readonly length: number
  /** Absent: the bytes are read as they lie in the file. */
  readonly conversion?: Conversion
}

/** Bytes of one piece that is converted. */
const CONVERTED_BYTES = 2 ** 20

/** Bytes of one system call; Linux itself stops short of 2 GiB. */
const MAX_BYTES_PER_CALL = 2 ** 30

export function isFileRange(data: Uint8Array | FileRange): data is FileRange {
  return !(data instanceof Uint8Array)
}

/** Allocates bytes. @throws E_TOO_LARGE when memory does not suffice. */
function allocate(length: number, file: string): Uint8Array {
  try {
    return new Uint8Array(length)
  } catch (error) {
    throw new QuantError(
      'E_TOO_LARGE',
      `a weight in ${file} has ${(length / 1e9).toFixed(1)} GB, more than can be held in memory at once`,
      'The file is damaged, or the machine is too small for it.',
      { cause: error },
    )
  }
}

/** Reads a range. @throws E_EXTERNAL_DATA when the file is gone or too short; E_TOO_LARGE when the range does not fit into memory. */
export function readRange(range: FileRange): Uint8Array {
  const bytes = allocate(range.length, range.file)
  readAt(range, 0, bytes)
  return bytes
}

/** The part of a range from byte `from` on, both counted as they are read. */
export const partOf = (range: FileRange, from: number, length: number): FileRange => ({
  ...range,
  offset: range.offset + from * (range.conversion?.ratio ?? 1),
  length,
})

/**
 * Bytes of a range, piece by piece in one buffer: each piece overwrites the one before.
 * @throws E_EXTERNAL_DATA when the file is gone or shorter than the range.
 */
export function* readPieces(range: FileRange, buffer: Uint8Array): Generator<Uint8Array> {
  const { length } = range
  for (let done = 0; done < length; done += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, length - done))
    readAt(range, done, piece)
    yield piece
  }
}

/**
 * Fills `target` with the bytes of a range from byte `from` on, which is the start of an element where the range has a conversion.
 * @throws E_EXTERNAL_DATA when the file is gone or ends before.
 */
export function readAt({ file, offset, conversion }: FileRange, from: number, target: Uint8Array): void {
  if (!conversion) return readFile(file, offset + from, target)
  for (let done = 0; done < target.length; done += CONVERTED_BYTES) {
    const length = Math.min(CONVERTED_BYTES, target.length - done)
    const source = new Uint8Array(length * conversion.ratio)
    readFile(file, offset + (from + done) * conversion.ratio, source)
    target.set(conversion.convert(source), done)
  }
}

/** Fills `target` with the bytes of a file from `offset` on. @throws as `readAt` */
function readFile(file: string, offset: number, target: Uint8Array): void {
  const { length } = target
  let descriptor: number
  try {
    descriptor = openSync(file, 'r')
  } catch (error) {
    throw new QuantError(
      'E_EXTERNAL_DATA',
      `cannot read weights from ${file}: ${messageOf(error)}`,
      'Put the data file beside the model, where the exporter wrote it.',
    )
  }
  closing(descriptor, () => {
    for (let done = 0; done < length;) {
      const got = readSync(descriptor, target, done, Math.min(length - done, MAX_BYTES_PER_CALL), offset + done)
      if (got === 0) {
        throw new QuantError(
          'E_EXTERNAL_DATA',
          `${file} ends before byte ${offset + length}, where a weight should end`,
          'The file is incomplete: copy or download it again.',
        )
      }
      done += got
    }
  })
}
