/**
 * @file .safetensors files of learned parameters, written completely or not at all. Gives bytes, and knows nothing of their meaning.
 * Trusts no header: it allocates no more bytes than the file holds.
 */

import { option } from '../option-mark.ts'
import { fstatSync, openSync, readSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { internalError, messageOf, QuantError, shown } from '../errors.ts'
import { AtomicFile } from './atomic-file.ts'
import { closing } from './closing.ts'
import { diskError } from './disk-errors.ts'
import { makeFolder } from './folders.ts'
import { checkPlainName } from './names.ts'

/** Types that are read and written -> bytes of an element. */
const ITEM_BYTES = { F32: 4, F16: 2, BF16: 2, F64: 8 } as const

export type SafetensorsType = keyof typeof ITEM_BYTES

export interface SafetensorsTensor {
  readonly dtype: SafetensorsType
  /** Empty for a scalar. */
  readonly shape: readonly number[]
  /** Elements row by row, little-endian. */
  readonly bytes: Uint8Array
}

export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>
}

// https://github.com/huggingface/safetensors: header length (uint64, little-endian), JSON header, data. Offsets of tensors
// count from the end of the header; tensors fill the data without gaps.
const LENGTH_BYTES = 8

const ALIGNMENT = 8

const METADATA = '__metadata__'

/** Header of some 300 000 tensors: models of 128 experts in 100 blocks have fewer. Parsed, a header takes thirty times its bytes. */
const MAX_HEADER_BYTES = 32 * 2 ** 20

/** One call of the operating system moves less than 2 GiB. */
const CHUNK_BYTES = 2 ** 30

/** Bytes of a tensor. Sizes from a file may be too large for an exact number: the result then fits no file either. */
const sizeOf = (dtype: SafetensorsType, shape: readonly number[]): number =>
  shape.reduce((count, size) => count * size, ITEM_BYTES[dtype])

const isType = (name: unknown): name is SafetensorsType => typeof name === 'string' && Object.hasOwn(ITEM_BYTES, name)

function headerOf({ metadata, tensors }: SafetensorsFile): { header: Buffer; ordered: SafetensorsTensor[] } {
  const byName = ([a]: [string, unknown], [b]: [string, unknown]) => Buffer.compare(Buffer.from(a), Buffer.from(b))
  const texts = Object.entries(metadata).sort(byName)
  // Entries are joined by hand, because an object would move names that look like numbers to its front.
  const object = (entries: readonly [string, string][]) =>
    `{${entries.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(',')}}`
  const entries: [string, string][] = []
  if (texts.length > 0) entries.push([METADATA, object(texts.map(([key, text]) => [key, JSON.stringify(text)]))])
  const ordered: SafetensorsTensor[] = []
  let offset = 0
  for (const [name, tensor] of [...tensors].sort(byName)) {
    const { dtype, shape, bytes } = tensor
    if (name === METADATA) throw internalError(`a parameter cannot be called ${METADATA}`)
    if (sizeOf(dtype, shape) !== bytes.length)
      throw internalError(`parameter "${name}" has ${bytes.length} bytes, but is ${dtype} [${shape.join(', ')}]`)
    const end = offset + bytes.length
    entries.push([name, JSON.stringify({ dtype, shape, data_offsets: [offset, end] })])
    ordered.push(tensor)
    offset = end
  }
  const json = Buffer.from(object(entries))
  const padded = Buffer.alloc(Math.ceil(json.length / ALIGNMENT) * ALIGNMENT, ' ')
  padded.set(json)
  return { header: padded, ordered }
}

/**
 * Writes tensors in the order of their names; folders are made as needed. Nothing changes under `path` before everything is
 * on disk, and nothing at all when writing fails. The same contents give the same bytes.
 * @param owner file whose lock is held, if not that of the file itself. @throws E_OUTPUT, also when `path` is a link or a device.
 */
export function writeSafetensors(path: string, contents: SafetensorsFile, owner?: string): void {
  const { header, ordered } = headerOf(contents)
  const target = resolve(path)
  checkPlainName(target)
  let file: AtomicFile | undefined
  try {
    makeFolder(dirname(target))
    file = new AtomicFile(target, owner)
    const length = Buffer.alloc(LENGTH_BYTES)
    length.writeBigUInt64LE(BigInt(header.length))
    file.write(length)
    file.write(header)
    for (const { bytes } of ordered) file.write(bytes)
    file.publish()
  } catch (error) {
    file?.discard()
    throw diskError(`cannot write parameters to ${target}`, error)
  }
}

const NOT_OURS = `Give a file that ${option('saveParams')} has written.`

const INCOMPLETE = 'The file is incomplete or damaged: copy it again, or save the parameters again.'

function bad(path: string, what: string, hint: string = INCOMPLETE): QuantError {
  return new QuantError('E_PARAMETERS', `${path}: ${what}`, hint)
}

function readAt(descriptor: number, path: string, position: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let done = 0; done < length;) {
    const got = readSync(descriptor, bytes, done, Math.min(length - done, CHUNK_BYTES), position + done)
    if (got === 0) throw bad(path, `ends at byte ${position + done}, while it is read`)
    done += got
  }
  return bytes
}

type Json = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

const areCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every(item => Number.isSafeInteger(item) && item >= 0)

/** @returns the header, and the byte at which the data starts. */
function readHeader(descriptor: number, path: string, fileBytes: number): { header: Json; dataStart: number } {
  if (fileBytes <= LENGTH_BYTES) throw bad(path, `has ${fileBytes} bytes, too few for a .safetensors file`)
  const start = Buffer.from(readAt(descriptor, path, 0, LENGTH_BYTES + 1))
  if (start[LENGTH_BYTES] !== '{'.charCodeAt(0)) throw bad(path, 'is not a .safetensors file', NOT_OURS)
  const said = start.readBigUInt64LE()
  if (said > MAX_HEADER_BYTES)
    throw bad(path, `says that its header has ${said} bytes; more than ${MAX_HEADER_BYTES} are not allowed`)
  const length = Number(said)
  const dataStart = LENGTH_BYTES + length
  if (dataStart > fileBytes)
    throw bad(path, `ends at byte ${fileBytes}, inside its header, which should end at byte ${dataStart}`)
  let header: unknown
  try {
    const bytes = readAt(descriptor, path, LENGTH_BYTES, length)
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    if (error instanceof QuantError) throw error
    throw bad(path, `has a header that is not JSON: ${messageOf(error)}`)
  }
  if (!isObject(header)) throw bad(path, 'has a header that is not a JSON object')
  return { header, dataStart }
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  if (value === undefined) return {}
  if (!isObject(value)) throw bad(path, `${METADATA} is not a JSON object`)
  const entries = Object.entries(value).map(([key, text]) => {
    if (typeof text !== 'string') throw bad(path, `"${key}" in ${METADATA} is not a text`)
    return [key, text] as const
  })
  return Object.fromEntries(entries)
}

interface Entry {
  readonly name: string
  readonly dtype: SafetensorsType
  readonly shape: readonly number[]
  /** In bytes from the start of the data. */
  readonly begin: number
  readonly end: number
}

function parseEntry(path: string, name: string, value: unknown): Entry {
  const fail = (what: string, hint?: string) => bad(path, `tensor "${name}" ${what}`, hint)
  if (!isObject(value)) throw fail('is not described by a JSON object')
  const { dtype, shape, data_offsets: offsets } = value
  if (!isType(dtype))
    throw fail(`is of type ${shown(dtype)}; parameters are ${Object.keys(ITEM_BYTES).join(', ')}`, NOT_OURS)
  if (!areCounts(shape)) throw fail(`has shape ${shown(shape)}, not a list of sizes`)
  if (!areCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!)
    throw fail(`has data_offsets ${shown(offsets)}, not where it begins and ends`)
  const [begin, end] = offsets as [number, number]
  const needed = sizeOf(dtype, shape)
  if (needed !== end - begin)
    throw fail(`of type ${dtype} [${shape.join(', ')}] needs ${needed} bytes, but has ${end - begin}`)
  return { name, dtype, shape, begin, end }
}

/**
 * Tensors in the order of their data. Every byte must belong to one of them: the format wants it so, and a damaged header
 * shows.
 */
function inOrder(path: string, entries: readonly Entry[], dataStart: number, dataBytes: number): Entry[] {
  const last = entries.reduce<Entry | undefined>((a, b) => (a && a.end >= b.end ? a : b), undefined)
  if (last && last.end > dataBytes) {
    const [is, should] = [dataStart + dataBytes, dataStart + last.end]
    throw bad(path, `ends at byte ${is}, but tensor "${last.name}" should end at byte ${should}`)
  }
  const ordered = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)
  let before: Entry | undefined
  for (const entry of ordered) {
    const free = before?.end ?? 0
    if (entry.begin < free) throw bad(path, `tensors "${before!.name}" and "${entry.name}" overlap`)
    if (entry.begin > free) throw bad(path, `has ${entry.begin - free} bytes of no tensor before "${entry.name}"`)
    before = entry
  }
  const end = before?.end ?? 0
  if (end < dataBytes) throw bad(path, `has ${dataBytes - end} bytes of no tensor at its end`)
  return ordered
}

function open(path: string): number {
  try {
    // Asked before opening: a pipe would never open, and a folder only fails when read.
    if (!statSync(path).isFile()) throw bad(path, 'is not a file', NOT_OURS)
    return openSync(path, 'r')
  } catch (error) {
    if (error instanceof QuantError) throw error
    const hint = 'Check the name, and that you may read it.'
    throw new QuantError('E_FILE_NOT_FOUND', `cannot read parameters from ${path}: ${messageOf(error)}`, hint)
  }
}

/**
 * Reads a .safetensors file. Tensors come in the order of their data, each with memory of its own.
 * @throws E_FILE_NOT_FOUND; E_PARAMETERS, naming file and tensor, when it is something else, incomplete or damaged.
 */
export function readSafetensors(path: string): SafetensorsFile {
  return closing(open(path), descriptor => {
    const fileBytes = fstatSync(descriptor).size
    const { header, dataStart } = readHeader(descriptor, path, fileBytes)
    const { [METADATA]: texts, ...descriptions } = header
    const metadata = parseMetadata(path, texts)
    const entries = Object.entries(descriptions).map(([name, value]) => parseEntry(path, name, value))
    const tensors = new Map<string, SafetensorsTensor>()
    for (const { name, dtype, shape, begin, end } of inOrder(path, entries, dataStart, fileBytes - dataStart)) {
      tensors.set(name, { dtype, shape, bytes: readAt(descriptor, path, dataStart + begin, end - begin) })
    }
    return { metadata, tensors }
  })
}
