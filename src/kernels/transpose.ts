/** @file Views and copies of arrays with strides: transposes, columns. The only file that imports ndarray. */

import ndarray, { type NdArray } from 'ndarray'
import { internalError } from '../errors.ts'
import { readElements, type Tensor } from '../graph/tensor.ts'

/** Typed arrays ndarray can stand on. */
export type Numbers =
  Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array

/** Rows and columns of the square pieces a transpose is copied in: two of them stay in the first-level cache. */
const TILE = 32

/** The tensor's elements as an ndarray over the same memory; float16 and bfloat16 as their 16-bit patterns. */
export function asNdarray(tensor: Tensor): NdArray<Numbers> {
  const elements = readElements(tensor)
  if (elements instanceof BigInt64Array || elements instanceof BigUint64Array)
    throw internalError(`${tensor.dtype} tensors have no ndarray view`)
  return ndarray<Numbers>(elements, [...tensor.dims])
}

/** The elements of a matrix view, copied row-major into an array of the same type. */
export function dense<T extends Numbers>(view: NdArray<T>): T {
  if (view.dimension !== 2) throw internalError(`a view of rank ${view.dimension} is not a matrix`)
  const [rows, cols] = view.shape as [number, number]
  const [rowStride, colStride] = view.stride as [number, number]
  const { data, offset } = view
  const copy = new (data.constructor as new (length: number) => T)(rows * cols)
  for (let top = 0; top < rows; top += TILE) {
    const bottom = Math.min(top + TILE, rows)
    for (let left = 0; left < cols; left += TILE) {
      const right = Math.min(left + TILE, cols)
      for (let row = top; row < bottom; row++) {
        let from = offset + row * rowStride + left * colStride
        for (let col = left; col < right; col++, from += colStride) copy[row * cols + col] = data[from]!
      }
    }
  }
  return copy
}

/** elements [rows, cols] -> [cols, rows], copied: [N, K] weights of torch's Linear to ONNX's [K, N] and back. */
export function transpose2d<T extends Numbers>(elements: T, rows: number, cols: number): T {
  return dense(ndarray<T>(elements, [rows, cols]).transpose(1, 0))
}

/** Columns `from` up to but not including `to` of elements [rows, cols], copied: one part of a fused weight. */
export function columns<T extends Numbers>(elements: T, rows: number, cols: number, from: number, to: number): T {
  return dense(
    ndarray<T>(elements, [rows, cols])
      .lo(0, from)
      .hi(rows, to - from),
  )
}
