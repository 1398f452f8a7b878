/**
 * @file Walks the protobuf records of an ONNX file without decoding them. Tensor payloads are taken out before decoding and put back
 * after encoding, so that weights never pass through a message. Knows the fields that lead to tensors, not their meaning.
 */

import { QuantError } from '../../errors.ts'
import type { FileRange } from '../../files/file-range.ts'
import { MAX_RECORDS } from '../limits.ts'

/** Random access to encoded bytes: a file, or memory. */
export interface ByteSource {
  /** For messages: the path. */
  readonly name: string
  readonly size: number
  byteAt(position: number): number
  /** A copy of [start, end). */
  copy(start: number, end: number): Uint8Array
}

/** One record: `at` is where its tag begins; [start, end) is its content without tag and length. */
export interface WireRecord {
  readonly field: number
  readonly wireType: number
  readonly at: number
  readonly start: number
  readonly end: number
}

/** A stretch of an encoded message: bytes at hand, or a range of a file. */
export type Piece = Uint8Array | FileRange

/** Replacement of a record of a TensorProto; undefined keeps it. */
export type Replace = (record: WireRecord) => readonly Piece[] | undefined

export const LENGTH_DELIMITED = 2

/**
 * Field number in TensorProto of the stand-in for a payload that was taken out. Protobuf reserves 19000-19999 for its
 * implementations: no schema can declare it.
 */
export const STAND_IN = 19999

type MessageName = 'model' | 'graph' | 'node' | 'attribute' | 'tensor'

// Fields of onnx.proto that lead to the tensors we interpret. Tensors elsewhere (functions, training, sparse) stay whole.
const NESTED: Record<MessageName, Readonly<Record<number, MessageName>>> = {
  model: { 7: 'graph' },
  graph: { 1: 'node', 5: 'tensor' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph' },
  tensor: {},
}

/** Messages within messages; a body of a Loop within a Loop adds three. Real files stay under 20. */
const MAX_DEPTH = 200

export function memorySource(bytes: Uint8Array, name = 'memory'): ByteSource {
  return {
    name,
    size: bytes.length,
    byteAt: position => bytes[position]!,
    copy: (start, end) => bytes.subarray(start, end),
  }
}

/** `value` as a varint; exact for integers up to 2^53. */
export function encodeVarint(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  bytes.push(rest)
  return bytes
}

/** Tag and length in front of `length` bytes of content. */
export function recordHeader(field: number, length: number): Uint8Array {
  return Uint8Array.from([...encodeVarint(field * 8 + LENGTH_DELIMITED), ...encodeVarint(length)])
}

/** Stand-in for a payload, with numbers to find it again. */
export function standIn(numbers: readonly number[]): Uint8Array {
  const content = numbers.flatMap(encodeVarint)
  return Uint8Array.from([...recordHeader(STAND_IN, content.length), ...content])
}

/** The varints in [start, end). */
export function readVarints(source: ByteSource, start: number, end: number): number[] {
  const values: number[] = []
  for (let at = start; at < end;) {
    const { value, next } = readVarint(source, at, end)
    values.push(value)
    at = next
  }
  return values
}

function damaged(source: ByteSource, at: number): QuantError {
  return new QuantError(
    'E_NOT_ONNX',
    `${source.name} is not a readable ONNX file: what is at byte ${at} makes no sense`,
    'If it should be a model, it is damaged: copy or download it again.',
  )
}

/** Error for content that ends before its declared length: the file is cut off, or is no ONNX file. */
function endsEarly(source: ByteSource, at: number, end: number): QuantError {
  // Every writer puts ir_version (field 1, a small number) first.
  const looksLikeOnnx = source.size < 2 || (source.byteAt(0) === 0x08 && source.byteAt(1) < 100)
  if (end < source.size || !looksLikeOnnx) return damaged(source, at)
  return new QuantError(
    'E_TRUNCATED',
    `${source.name} ends too early: what begins at byte ${at} should go on after its last byte, ${source.size}`,
    'The file is incomplete: copy or download it again.',
  )
}

function readVarint(source: ByteSource, at: number, end: number): { value: number; next: number } {
  let value = 0
  for (let i = 0, factor = 1; i < 10; i++, factor *= 128) {
    if (at + i >= end) throw endsEarly(source, at, end)
    const byte = source.byteAt(at + i)
    value += (byte & 127) * factor
    if (byte < 128) return { value, next: at + i + 1 }
  }
  throw damaged(source, at)
}

/** The record that begins at `at` of a message that ends at `end`. @throws E_NOT_ONNX, E_TRUNCATED */
export function readRecord(source: ByteSource, at: number, end: number): WireRecord {
  const tag = readVarint(source, at, end)
  const field = Math.floor(tag.value / 8)
  const wireType = tag.value % 8
  if (field < 1 || field >= 2 ** 29) throw damaged(source, at)
  let start = tag.next
  let stop: number
  if (wireType === 0) stop = readVarint(source, start, end).next
  else if (wireType === 1) stop = start + 8
  else if (wireType === 5) stop = start + 4
  else if (wireType === LENGTH_DELIMITED) {
    const length = readVarint(source, start, end)
    start = length.next
    stop = start + length.value
  } else throw damaged(source, at)
  if (stop > end) throw endsEarly(source, at, end)
  return { field, wireType, at, start, end: stop }
}

/** The refusal of a file whose structure would not fit into memory. */
export function tooMany(name: string, what: string): QuantError {
  return new QuantError(
    'E_TOO_LARGE',
    `${name} has more than ${what} besides its weights`,
    'No decoder that omniquant knows has so many: the file is damaged, or not what it should be.',
  )
}

const lengthOf = (pieces: readonly Piece[]): number => pieces.reduce((sum, piece) => sum + piece.length, 0)

/**
 * An encoded ModelProto with records of its tensors replaced, and all enclosing lengths updated. Messages shorter than `minimum` bytes
 * are kept as they are.
 * @throws E_NOT_ONNX, E_TRUNCATED naming the source and the byte
 */
export function rewriteTensors(source: ByteSource, replace: Replace, minimum = 0): Piece[] {
  let records = 0
  const rewrite = (name: MessageName, start: number, end: number, depth: number): Piece[] | undefined => {
    if (depth > MAX_DEPTH) throw damaged(source, start)
    const nested = NESTED[name]
    const pieces: Piece[] = []
    let kept = start // [kept, at) is unchanged and not yet in `pieces`
    for (let at = start; at < end;) {
      const record = readRecord(source, at, end)
      if (++records > MAX_RECORDS) throw tooMany(source.name, `${MAX_RECORDS} records`)
      at = record.end
      const replacement = replacementOf(name, nested[record.field], record, depth)
      if (!replacement) continue
      if (record.at > kept) pieces.push(source.copy(kept, record.at))
      for (const piece of replacement) pieces.push(piece)
      kept = record.end
    }
    if (pieces.length === 0 && kept === start) return undefined
    if (end > kept) pieces.push(source.copy(kept, end))
    return pieces
  }
  const replacementOf = (name: MessageName, inner: MessageName | undefined, record: WireRecord, depth: number) => {
    if (name === 'tensor') return replace(record)
    if (!inner || record.wireType !== LENGTH_DELIMITED || record.end - record.start < minimum) return undefined
    const body = rewrite(inner, record.start, record.end, depth + 1)
    return body && [recordHeader(record.field, lengthOf(body)), ...body]
  }
  return rewrite('model', 0, source.size, 0) ?? [source.copy(0, source.size)]
}
