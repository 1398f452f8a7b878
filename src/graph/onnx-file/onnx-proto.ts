/**
 * @file The door to onnx-proto. Its schema is ONNX 1.10, whose decoder silently drops every field added since
 * (metadata_props of nodes, `overload`, device configurations, ...). Here the fields it does not know are kept as raw
 * bytes on the message they came with and written back after the known ones, so that a file survives a round trip.
 */

import { createRequire } from 'node:module'
import type { onnx as Onnx } from 'onnx-proto'
import { MAX_RECORDS, RECORDS_PER_MESSAGE } from '../limits.ts'
import { LENGTH_DELIMITED, memorySource, readRecord, tooMany } from './wire.ts'

// A CommonJS package whose messages call each other through this object: wrapping a method here reaches nested messages.
const onnx: typeof Onnx = createRequire(import.meta.url)('onnx-proto').onnx

/** The parts of protobufjs' Reader and Writer used below. */
interface Reader {
  readonly buf: Uint8Array
  readonly pos: number
}

interface Writer {
  _push(
    write: (value: Uint8Array, buffer: Uint8Array, position: number) => void,
    length: number,
    value: Uint8Array,
  ): Writer
  finish(): Uint8Array
}

interface MessageType {
  decode(reader: Reader | Uint8Array, length?: number): object
  encode(message: object, writer?: Writer): Writer
}

// Field numbers the 1.10 schema of onnx-proto 8 knows, per message (onnx.proto at v1.10.2).
const KNOWN_FIELDS: Record<string, readonly number[]> = {
  AttributeProto: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 20, 21, 22, 23],
  ValueInfoProto: [1, 2, 3],
  NodeProto: [1, 2, 3, 4, 5, 6, 7],
  TrainingInfoProto: [1, 2, 3, 4],
  ModelProto: [1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25],
  StringStringEntryProto: [1, 2],
  TensorAnnotation: [1, 2],
  GraphProto: [1, 2, 5, 10, 11, 12, 13, 14, 15],
  TensorProto: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
  SparseTensorProto: [1, 2, 3],
  TypeProto: [1, 4, 5, 6, 8, 9],
  OperatorSetIdProto: [1, 2],
  FunctionProto: [1, 4, 5, 6, 7, 8, 9, 10],
}

/** Fields that may be packed lists of numbers: one record, at least a byte for each number. */
const PACKED_FIELDS: Record<string, readonly number[]> = {
  AttributeProto: [7, 8],
  TensorProto: [1, 4, 5, 7, 10, 11],
  SparseTensorProto: [3],
}

const UNKNOWN = Symbol('fields newer than the schema')

/** Raw records of the fields of `message` the schema does not know, or undefined. */
export function unknownFields(message: object): Uint8Array | undefined {
  return (message as { [UNKNOWN]?: Uint8Array })[UNKNOWN]
}

/** Contents of the records of one such field, in order. */
export function unknownRecords(message: object, field: number): Uint8Array[] {
  const bytes = unknownFields(message) ?? new Uint8Array(0)
  const source = memorySource(bytes, 'the model')
  const contents: Uint8Array[] = []
  for (let at = 0; at < bytes.length;) {
    const record = readRecord(source, at, bytes.length)
    if (record.field === field) contents.push(source.copy(record.start, record.end))
    at = record.end
  }
  return contents
}

export function setUnknownFields(message: object, bytes: Uint8Array | undefined): void {
  if (bytes) Object.defineProperty(message, UNKNOWN, { value: bytes, configurable: true })
}

/** Records, and numbers in lists, of the model that is being decoded. */
let decoded = 0

function count(more: number): void {
  decoded += more
  if (decoded > MAX_RECORDS) throw tooMany('the model', `${MAX_RECORDS} records`)
}

function collectUnknown(
  bytes: Uint8Array,
  start: number,
  end: number,
  { known, packed }: Fields,
): Uint8Array | undefined {
  const source = memorySource(bytes, 'the model')
  const records: Uint8Array[] = []
  count(RECORDS_PER_MESSAGE)
  for (let at = start; at < end;) {
    const record = readRecord(source, at, end)
    count(packed.has(record.field) && record.wireType === LENGTH_DELIMITED ? record.end - record.start : 1)
    if (!known.has(record.field)) records.push(source.copy(record.at, record.end))
    at = record.end
  }
  return records.length === 0 ? undefined : new Uint8Array(Buffer.concat(records))
}

interface Fields {
  readonly known: ReadonlySet<number>
  readonly packed: ReadonlySet<number>
}

function keepUnknownFields(type: MessageType, fields: Fields): void {
  const { decode, encode } = type
  type.decode = (input, length) => {
    const [bytes, start] = input instanceof Uint8Array ? [input, 0] : [input.buf, input.pos]
    if (input instanceof Uint8Array) decoded = 0
    // Counted before decoding, which needs memory for each record.
    const end = length === undefined ? bytes.length : start + length
    const unknown = collectUnknown(bytes, start, end, fields)
    const message = decode.call(type, input, length)
    setUnknownFields(message, unknown)
    return message
  }
  type.encode = (message, writer) => {
    const result = encode.call(type, message, writer)
    const bytes = unknownFields(message)
    return bytes ? result._push((value, buffer, position) => buffer.set(value, position), bytes.length, bytes) : result
  }
}

for (const [name, fields] of Object.entries(KNOWN_FIELDS)) {
  const packed = new Set(PACKED_FIELDS[name])
  keepUnknownFields((onnx as unknown as Record<string, MessageType>)[name]!, { known: new Set(fields), packed })
}

/** A 64-bit field as a number: the decoder gives Long objects. Exact up to 2^53. */
export function toNumber(value: number | { toNumber(): number } | null | undefined): number {
  return typeof value === 'number' ? value : (value?.toNumber() ?? 0)
}

export type { Onnx }

export { onnx }
