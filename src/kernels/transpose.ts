/** @file Transposes of matrices. The only file that imports ndarray. */

import ndarray, { type NdArray } from 'ndarray'

/** Element types of matrices that ndarray can view. */
type Numbers =
  Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array

/** Rows and columns of the square tiles in which a transpose is copied: two of them fit into the first-level cache. */
const TILE = 32

/** Copies the elements of a matrix view row-major into an array of the same type. */
function dense<T extends Numbers>(view: NdArray<T>): T {
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

/** Copies elements [rows, cols] to [cols, rows]: weights [N, K] of torch.nn.Linear to [K, N] of MatMul and back. */
export function transpose2d<T extends Numbers>(elements: T, rows: number, cols: number): T {
  return dense(ndarray<T>(elements, [rows, cols]).transpose(1, 0))
}
