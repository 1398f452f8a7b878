/** @file TensorProto -> Tensor: turns every storage form of values into raw data. Reads no weights. */

import { QuantError } from '../../errors.ts'
import { type FileRange, readRange } from '../../files/file-range.ts'
import { byteLength, type DType, dtypeFromNumber } from '../dtype.ts'
import { MAX_RANK } from '../limits.ts'
import { elementCount, type Tensor } from '../tensor.ts'
import { type ModelFile, resolveExternalData } from './external-data.ts'
import { type Onnx, onnx, setUnknownFields, toNumber, unknownFields } from './onnx-proto.ts'
import { memorySource, readRecord, readVarints, STAND_IN } from './wire.ts'

/** Payloads from this many bytes up stay on disk. */
export const MIN_ON_DISK_BYTES = 1024

/** Most bytes of a 64-bit number as a varint. */
const MAX_VARINT_BYTES = 10

type TypedKey = 'floatData' | 'int32Data' | 'int64Data' | 'doubleData' | 'uint64Data'

export const RAW_DATA = 9

/** Fields of TensorProto that hold numbers; `varint` ones are not laid out as raw data. */
const TYPED_FIELDS: Record<TypedKey, { readonly field: number; readonly varint: boolean }> = {
  floatData: { field: 4, varint: false },
  int32Data: { field: 5, varint: true },
  int64Data: { field: 7, varint: true },
  doubleData: { field: 10, varint: false },
  uint64Data: { field: 11, varint: true },
}

/** Field numbers of TensorProto whose payload may stay on disk. */
export const PAYLOAD_FIELDS: ReadonlySet<number> = new Set([
  RAW_DATA,
  ...Object.values(TYPED_FIELDS).map(({ field }) => field),
])

// Which typed field belongs to which element type (onnx.proto, comments of TensorProto). All others use int32_data.
const TYPED_KEY: Partial<Record<DType, TypedKey>> = {
  float32: 'floatData',
  complex64: 'floatData',
  float64: 'doubleData',
  complex128: 'doubleData',
  int64: 'int64Data',
  uint32: 'uint64Data',
  uint64: 'uint64Data',
}

/** Low and high 32 bits of each number, as `width` bytes each, little-endian. */
class Packer {
  readonly bytes: Uint8Array
  private readonly view: DataView
  private readonly width: number
  private at = 0

  constructor(count: number, width: number) {
    this.bytes = new Uint8Array(count * width)
    this.view = new DataView(this.bytes.buffer)
    this.width = width
  }

  push(low: number, high: number): void {
    if (this.width === 1) this.view.setUint8(this.at, low)
    else if (this.width === 2) this.view.setUint16(this.at, low, true)
    else this.view.setUint32(this.at, low, true)
    if (this.width === 8) this.view.setUint32(this.at + 4, high, true)
    this.at += this.width
  }
}

/** Packed varints as raw elements of `width` bytes. */
function unpackVarints(packed: Uint8Array, width: number): Uint8Array {
  const packer = new Packer(
    packed.reduce((count, byte) => (byte < 128 ? count + 1 : count), 0),
    width,
  )
  let low = 0
  let high = 0
  let shift = 0
  for (const byte of packed) {
    const bits = byte & 127
    if (shift < 32) low |= bits << shift
    if (shift === 28) high = bits >>> 4
    else if (shift > 28) high |= bits << (shift - 32)
    shift += 7
    if (byte < 128) {
      packer.push(low, high)
      low = high = shift = 0
    }
  }
  return packer.bytes
}

/** Elements the protobuf decoder gave as numbers or Longs, as raw bytes. */
function packNumbers(key: TypedKey, numbers: readonly (number | Onnx.ITensorProto['int64Data'])[], width: number) {
  if (key === 'floatData') return new Uint8Array(Float32Array.from(numbers as number[]).buffer)
  if (key === 'doubleData') return new Uint8Array(Float64Array.from(numbers as number[]).buffer)
  const packer = new Packer(numbers.length, width)
  for (const entry of numbers as unknown as (number | { low: number; high: number })[]) {
    if (typeof entry === 'number') packer.push(entry, entry < 0 ? -1 : 0)
    else packer.push(entry.low, entry.high)
  }
  return packer.bytes
}

/** Payloads that load.ts left in the file, by field, and the other fields that the schema does not know. */
function takeStandIns(proto: object, tensor: string, model: ModelFile | undefined) {
  const onDisk = new Map<number, FileRange>()
  const rest: Uint8Array[] = []
  const source = memorySource(unknownFields(proto) ?? new Uint8Array(0), tensor)
  for (let at = 0; at < source.size;) {
    const record = readRecord(source, at, source.size)
    at = record.end
    if (record.field !== STAND_IN) {
      rest.push(source.copy(record.at, record.end))
      continue
    }
    const [field, offset, length] = readVarints(source, record.start, record.end)
    if (model === undefined || field === undefined || !(offset! + length! <= model.sizeBytes) || onDisk.has(field)) {
      throw new QuantError('E_NOT_ONNX', `${tensor} has its values more than once`)
    }
    onDisk.set(field, { file: model.realPath, offset: offset!, length: length! })
  }
  return { onDisk, unknown: rest.length > 0 ? new Uint8Array(Buffer.concat(rest)) : undefined }
}

function dimsOf(proto: Onnx.ITensorProto, tensor: string): number[] {
  const dims = (proto.dims ?? []).map(toNumber)
  if (dims.length > MAX_RANK)
    throw new QuantError('E_TOO_LARGE', `${tensor} has ${dims.length} dimensions, more than ${MAX_RANK}`)
  if (!dims.every(dim => Number.isSafeInteger(dim) && dim >= 0))
    throw new QuantError('E_NOT_ONNX', `${tensor} has impossible dims [${dims.join(', ')}]`)
  return dims
}

function dtypeOf(proto: Onnx.ITensorProto, tensor: string): DType {
  try {
    return dtypeFromNumber(proto.dataType ?? 0)
  } catch (error) {
    if (!(error instanceof QuantError)) throw error
    throw new QuantError(error.code, `${tensor}: ${error.message}`, error.hint)
  }
}

/** Bytes of the values, of any length: the caller checks it. */
function payloadOf(
  proto: Onnx.ITensorProto,
  dtype: DType,
  expected: number,
  onDisk: ReadonlyMap<number, FileRange>,
  tensor: string,
) {
  const once = <T>(field: number, inline: T | undefined): T | FileRange | undefined => {
    const range = onDisk.get(field)
    if (range && inline !== undefined) throw new QuantError('E_NOT_ONNX', `${tensor} has its values more than once`)
    return range ?? inline
  }
  const raw = once(RAW_DATA, Object.hasOwn(proto, 'rawData') ? proto.rawData!.slice() : undefined)
  if (raw) return raw
  const key = TYPED_KEY[dtype] ?? 'int32Data'
  const { field, varint } = TYPED_FIELDS[key]
  const width = Math.min(8, Math.max(1, byteLength(dtype, 1)))
  const numbers = proto[key] as readonly number[] | undefined
  const typed = once(field, numbers && numbers.length > 0 ? packNumbers(key, numbers, width) : undefined)
  if (typed === undefined) return new Uint8Array(0)
  if (!varint || typed instanceof Uint8Array) return typed
  // A varint has one to ten bytes: impossible lengths are rejected before reading.
  const count = expected / width
  if (typed.length < count || typed.length > MAX_VARINT_BYTES * count)
    throw new QuantError('E_NOT_ONNX', `${tensor} has ${typed.length} bytes for ${count} numbers`)
  return unpackVarints(readRange(typed), width)
}

/**
 * The tensor of a message whose large payloads load.ts left on disk. `tensor` names it in messages.
 * @throws E_NOT_ONNX, E_TRUNCATED, E_UNSUPPORTED, E_EXTERNAL_DATA, all naming the tensor
 */
export function decodeTensor(proto: Onnx.ITensorProto, tensor: string, model?: ModelFile): Tensor {
  const dims = dimsOf(proto, tensor)
  const dtype = dtypeOf(proto, tensor)
  const count = elementCount(dims)
  const { onDisk, unknown } = takeStandIns(proto, tensor, model)
  const source: Onnx.ITensorProto = proto.docString ? { docString: proto.docString } : {}
  setUnknownFields(source, unknown)
  const external = proto.dataLocation === onnx.TensorProto.DataLocation.EXTERNAL
  if (proto.segment || (external && dtype === 'string')) {
    throw new QuantError('E_UNSUPPORTED', `${tensor} keeps its values in a form no exporter we know writes`)
  }
  if (dtype === 'string') {
    const strings = (proto.stringData ?? []).map(text => text.slice())
    if (strings.length !== count)
      throw wrongLength(tensor, dtype, dims, `${strings.length} strings`, strings.length < count)
    return { dtype, dims, data: new Uint8Array(0), strings, source }
  }
  const expected = byteLength(dtype, count)
  if (external) {
    const entries = new Map((proto.externalData ?? []).map(entry => [entry.key ?? '', entry.value ?? '']))
    const range = resolveExternalData(entries, tensor, expected, model)
    return { dtype, dims, data: expected < MIN_ON_DISK_BYTES ? readRange(range) : range, source }
  }
  const data = payloadOf(proto, dtype, expected, onDisk, tensor)
  if (data.length !== expected)
    throw wrongLength(tensor, dtype, dims, `${data.length} bytes where ${expected} are needed`, data.length < expected)
  return { dtype, dims, data, source }
}

function wrongLength(tensor: string, dtype: DType, dims: readonly number[], got: string, short: boolean): QuantError {
  return new QuantError(
    short ? 'E_TRUNCATED' : 'E_NOT_ONNX',
    `${tensor}, ${dtype}[${dims.join(', ')}], has ${got}`,
    'The file is damaged: copy, download or export it again.',
  )
}
