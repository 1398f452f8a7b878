/** @file Tensors of a model: shape, type, and bytes, in memory or still in a file. */

import { internalError } from '../errors.ts'
import { type FileRange, isFileRange, partOf, readAt, readRange } from '../files/file-range.ts'
import { byteLength, type DType } from './dtype.ts'

/** A constant. `data` is little-endian and row-major, as ONNX `raw_data`; sub-byte types packed low bits first. */
export interface Tensor {
  readonly dtype: DType
  readonly dims: readonly number[]
  readonly data: Uint8Array | FileRange
  /** Elements of a `string` tensor, which have no raw form. */
  readonly strings?: readonly Uint8Array[]
  /** Other fields of this tensor in the file, written back unchanged. Only decode.ts and encode.ts look inside. */
  readonly source?: unknown
}

/** Typed arrays for the elements of a tensor. float16 and bfloat16 are 16-bit patterns. */
export type Elements =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array

type ElementsConstructor = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => Elements

const ELEMENTS: Partial<Record<DType, ElementsConstructor>> = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
}

/** Number of elements of a tensor with these dims; 1 for a scalar. */
export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1)
}

/** Size of the tensor in bytes, in memory or on disk. */
export function sizeBytes(tensor: Tensor): number {
  return isFileRange(tensor.data) ? tensor.data.length : tensor.data.byteLength
}

/**
 * The bytes of a tensor, read from disk if needed. Every call reads again.
 * @throws E_EXTERNAL_DATA when the file is gone or shorter than the range.
 */
export function readBytes(tensor: Tensor): Uint8Array {
  return isFileRange(tensor.data) ? readRange(tensor.data) : tensor.data
}

/**
 * Fills `target` with the bytes of a tensor from `offset` on.
 * @throws E_EXTERNAL_DATA when the file is gone or shorter than that.
 */
export function readInto({ data }: Tensor, offset: number, target: Uint8Array): void {
  if (isFileRange(data)) readAt(data, offset, target)
  else target.set(data.subarray(offset, offset + target.length))
}

/** The elements of a tensor as a typed array over its bytes (copied only when the bytes are not aligned). */
export function readElements(tensor: Tensor): Elements {
  const View = ELEMENTS[tensor.dtype]
  if (View === undefined) throw internalError(`elements of ${tensor.dtype} tensors cannot be viewed`)
  const bytes = readBytes(tensor)
  const count = elementCount(tensor.dims)
  const width = byteLength(tensor.dtype, 1)
  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice()
  return new View(aligned.buffer, aligned.byteOffset, count)
}

/** Elements as plain numbers: for shapes, axes and other small constants. */
export function readNumbers(tensor: Tensor): number[] {
  return Array.from(readElements(tensor) as ArrayLike<number | bigint>, Number)
}

/** Wraps typed elements as a tensor, without copying. */
export function tensorOf(dtype: DType, dims: readonly number[], elements: Elements): Tensor {
  if (elements.length !== elementCount(dims)) {
    throw internalError(`${elements.length} elements do not fill dims [${dims.join(', ')}]`)
  }
  return { dtype, dims, data: new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength) }
}

export function floatTensor(
  dims: readonly number[],
  values: Iterable<number>,
  dtype: 'float32' | 'float64' = 'float32',
): Tensor {
  return tensorOf(dtype, dims, dtype === 'float32' ? Float32Array.from(values) : Float64Array.from(values))
}

export function int64Tensor(dims: readonly number[], values: Iterable<number>): Tensor {
  return tensorOf('int64', dims, BigInt64Array.from(Array.from(values, value => BigInt(value))))
}

/** The parts of a tensor along its first axis, as views: nothing is read or copied. Only for types of whole bytes. */
export function slicesOf({ dtype, dims, data }: Tensor): Tensor[] {
  const [count, ...rest] = dims as [number, ...number[]]
  const length = byteLength(dtype, elementCount(rest))
  return Array.from({ length: count }, (_, i) => ({
    dtype,
    dims: rest,
    data: isFileRange(data) ? partOf(data, i * length, length) : data.subarray(i * length, (i + 1) * length),
  }))
}
