/**
 * @file Stores a value with large arrays as one file, with a hash against damage. The file is complete or absent. Knows no model.
 *
 * Layout: magic, length of the JSON, the JSON, then arrays at multiples of 64 bytes, then the SHA-256 of all before. In the JSON an
 * array is {"$": [kind, type, dims, offset, length]}, a number that JSON lacks is {"$": ["number", "NaN"]}, null stands for undefined.
 */

import { option } from '../option-mark.ts'
import { createHash } from 'node:crypto'
import { fstatSync, readSync } from 'node:fs'
import { internalError, messageOf, QuantError } from '../errors.ts'
import { AtomicFile } from './atomic-file.ts'
import { closing } from './closing.ts'
import { diskError } from './disk-errors.ts'
import { type FileRange, isFileRange, readPieces, readRange } from './file-range.ts'
import { openPlainFile } from './plain-file.ts'

const MAGIC = 'omniq-r1'

const ALIGNMENT = 64

const HASH_BYTES = 32

const CHUNK_BYTES = 16 * 2 ** 20

/** Most bytes of the JSON, which describes some hundred arrays and a report. */
const MAX_HEADER_BYTES = 64 * 2 ** 20

const ARRAYS = { Float32Array, Uint8Array, Int32Array, BigInt64Array } as const

type ArrayName = keyof typeof ARRAYS

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

const aligned = (offset: number): number => Math.ceil(offset / ALIGNMENT) * ALIGNMENT

/** JSON of a value, and its arrays; offsets count from the first array. */
function encode(value: unknown): { json: Json; arrays: (Uint8Array | FileRange)[] } {
  const arrays: (Uint8Array | FileRange)[] = []
  let end = 0
  const place = (bytes: Uint8Array | FileRange): readonly [number, number] => {
    const offset = aligned(end)
    arrays.push(bytes)
    end = offset + bytes.length
    return [offset, bytes.length]
  }
  const visit = (item: unknown): Json => {
    if (item === undefined || item === null) return null
    if (typeof item === 'number') return Number.isFinite(item) ? item : { $: ['number', String(item)] }
    if (typeof item === 'string' || typeof item === 'boolean') return item
    if (Array.isArray(item)) return item.map(visit)
    if (ArrayBuffer.isView(item)) {
      const name = item.constructor.name
      if (!Object.hasOwn(ARRAYS, name)) throw internalError(`a record cannot hold a ${name}`)
      return { $: ['array', name, ...place(new Uint8Array(item.buffer, item.byteOffset, item.byteLength))] }
    }
    if (typeof item !== 'object') throw internalError(`a record cannot hold a ${typeof item}`)
    if (isTensor(item)) return { $: ['tensor', item.dtype, [...item.dims], ...place(item.data)] }
    return Object.fromEntries(Object.entries(item).map(([key, inner]) => [key, visit(inner)]))
  }
  return { json: visit(value), arrays }
}

/** An array whose bytes may lie in a file, as tensors of a graph do. */
interface StoredArray {
  readonly dtype: string
  readonly dims: readonly number[]
  readonly data: Uint8Array | FileRange
}

const isTensor = (item: object): item is StoredArray =>
  'dtype' in item &&
  'dims' in item &&
  'data' in item &&
  (item.data instanceof Uint8Array || isFileRange(item.data as FileRange))

/**
 * Writes a value of objects, arrays, strings, numbers, booleans, typed arrays and tensors as one file.
 * @param durable waits until it is on the disk. @throws E_OUTPUT
 */
export function writeRecord(path: string, value: unknown, durable: boolean): void {
  const { json, arrays } = encode(value)
  const header = Buffer.from(JSON.stringify(json))
  const start = Buffer.alloc(16)
  start.write(MAGIC, 'latin1')
  start.writeBigUInt64LE(BigInt(header.length), 8)
  const hash = createHash('sha256')
  let file: AtomicFile | undefined
  let size = 0
  const write = (bytes: Uint8Array) => {
    hash.update(bytes)
    file!.write(bytes)
    size += bytes.length
  }
  const pad = () => write(new Uint8Array(aligned(size) - size))
  try {
    file = new AtomicFile(path)
    write(start)
    write(header)
    for (const data of arrays) {
      pad()
      const pieces = isFileRange(data) ? readPieces(data, new Uint8Array(CHUNK_BYTES)) : [data]
      for (const piece of pieces) write(piece)
    }
    file.write(hash.digest())
    file.publish(durable)
  } catch (error) {
    file?.discard()
    throw diskError(`cannot write ${path}`, error)
  }
}

/**
 * Reads what `writeRecord` wrote: typed arrays into memory, tensors as ranges of the file.
 * @throws E_RESUME when the file is not there, incomplete or damaged.
 */
export function readRecord(path: string): unknown {
  let descriptor: number
  try {
    descriptor = openPlainFile(path)
  } catch (error) {
    throw damaged(path, `cannot be read: ${messageOf(error)}`)
  }
  return closing(descriptor, () => {
    const { size } = fstatSync(descriptor)
    const start = Buffer.alloc(16)
    if (size < start.length + HASH_BYTES || readSync(descriptor, start, 0, 16, 0) < 16)
      throw damaged(path, 'is cut off')
    const length = Number(start.readBigUInt64LE(8))
    if (start.toString('latin1', 0, 8) !== MAGIC || length > MAX_HEADER_BYTES || 16 + length + HASH_BYTES > size)
      throw damaged(path, 'is damaged')
    checkHash(descriptor, path, size - HASH_BYTES)
    const header = Buffer.alloc(length)
    readSync(descriptor, header, 0, length, 16)
    return decode(JSON.parse(header.toString()) as Json, path, aligned(16 + length))
  })
}

const damaged = (path: string, how: string): QuantError =>
  new QuantError(
    'E_RESUME',
    `${path} ${how}`,
    `It cannot be gone on from there: start over with ${option('fresh', true)}.`,
  )

function checkHash(descriptor: number, path: string, length: number): void {
  const hash = createHash('sha256')
  const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, length))
  for (let done = 0; done < length;) {
    const got = readSync(descriptor, chunk, 0, Math.min(chunk.length, length - done), done)
    if (got === 0) throw damaged(path, 'is cut off')
    hash.update(chunk.subarray(0, got))
    done += got
  }
  const expected = Buffer.alloc(HASH_BYTES)
  readSync(descriptor, expected, 0, HASH_BYTES, length)
  if (!hash.digest().equals(expected)) throw damaged(path, 'is damaged')
}

function decode(json: Json, path: string, base: number): unknown {
  const visit = (item: Json): unknown => {
    if (item === null) return undefined
    if (typeof item !== 'object') return item
    if (Array.isArray(item)) return item.map(visit)
    const reference = (item as { readonly $?: readonly Json[] }).$
    if (!reference) return Object.fromEntries(Object.entries(item).map(([key, inner]) => [key, visit(inner)]))
    const [kind, type, ...rest] = reference
    if (kind === 'number') return Number(type)
    const [offset, length] = rest.slice(-2) as [number, number]
    const range = { file: path, offset: base + offset, length }
    if (kind === 'tensor') return { dtype: type, dims: rest[0], data: range }
    const ArrayType = ARRAYS[type as ArrayName]
    return new ArrayType(readRange(range).buffer as ArrayBuffer)
  }
  return visit(json)
}
