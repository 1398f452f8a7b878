/** @file Small pieces of graph that several rules write, each leaving out what would change nothing. Knows no rule. */

import type { Builder } from '../graph/builder.ts'
import type { DType } from '../graph/dtype.ts'
import type { Value } from '../graph/ir.ts'
import { sameShape, type Shape, staticShape } from '../graph/shape.ts'
import { elementCount, tensorOf } from '../graph/tensor.ts'

/** x * factor; x itself when the factor is 1. */
export function scaled(g: Builder, x: Value, factor: number): Value {
  if (factor === 1) return x
  return factor === -1 ? g.neg(x) : g.scale(x, factor)
}

/** x in the given shape of as many elements; x itself when it has that shape. */
export function reshaped(g: Builder, x: Value, shape: Shape): Value {
  return sameShape(staticShape(x), shape) ? x : g.reshape(x, shape)
}

/** x repeated to `shape`, to which it broadcasts; x itself when it has that shape. */
export function expanded(g: Builder, x: Value, shape: Shape): Value {
  return sameShape(staticShape(x), shape) ? x : g.op('Expand', [x, g.ints(shape)])
}

/** x where `condition` holds, else 0. No product with a mask: an infinite gradient that is masked must give 0. */
export function keepWhere(g: Builder, condition: Value, x: Value): Value {
  return g.op('Where', [condition, x, g.scalar(0, x.dtype)])
}

/** 0 where `condition` holds, else x. */
export function dropWhere(g: Builder, condition: Value, x: Value): Value {
  return g.op('Where', [condition, g.scalar(0, x.dtype), x])
}

/** A constant of ones, float32 or float64: sums written as products, which run on every core along every axis. */
export function ones(g: Builder, dims: readonly number[], dtype: DType): Value {
  const count = elementCount(dims)
  const data = dtype === 'float64' ? new Float64Array(count).fill(1) : new Float32Array(count).fill(1)
  return g.initializer('ones', tensorOf(dtype, dims, data))
}

/** Zeros, made at run time: a constant of a weight's size would swell the program. By Expand: WebGPU has no ConstantOfShape. */
export function zeros(g: Builder, shape: Shape, dtype: DType): Value {
  return g.op('Expand', [g.scalar(0, dtype), g.ints(shape)], {}, { name: 'zeros' })
}

/** x between zeros along one axis, so that it starts at `start` of `size`. */
export function embedded(g: Builder, x: Value, axis: number, start: number, size: number): Value {
  const shape = staticShape(x)
  const pads: number[] = Array(2 * shape.length).fill(0)
  pads[axis] = start
  pads[axis + shape.length] = size - start - shape[axis]!
  return padded(g, x, pads)
}

/** x with zeros around it, `pads` as ONNX has them: all starts, then all ends; a negative one crops. */
export function padded(g: Builder, x: Value, pads: readonly number[]): Value {
  return pads.every(pad => pad === 0) ? x : g.op('Pad', [x, g.ints(pads)])
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b))

/**
 * A vector [size] in pieces of these shapes, one after the other. It is cut as a matrix with the longest rows that all pieces consist of:
 * for every Split and Concat of unequal parts, onnxruntime sends a CUDA device an int64 for each row.
 */
export function vectorInPieces(g: Builder, x: Value, shapes: readonly Shape[], name?: string): Value[] {
  if (shapes.length === 1) return [reshaped(g, x, shapes[0]!)]
  const sizes = shapes.map(elementCount)
  const width = sizes.reduce(greatestCommonDivisor)
  const rows = g.reshape(x, [elementCount(staticShape(x)) / width, width])
  const counts = sizes.map(size => size / width)
  return g.split(rows, counts, 0, name === undefined ? {} : { name }).map((part, i) => g.reshape(part, shapes[i]!))
}

/** The opposite: pieces one after the other as a vector. */
export function piecesAsVector(g: Builder, pieces: readonly Value[]): Value {
  const sizes = pieces.map(piece => elementCount(staticShape(piece)))
  const width = sizes.reduce(greatestCommonDivisor)
  const rows = pieces.map((piece, i) => reshaped(g, piece, [sizes[i]! / width, width]))
  const size = sizes.reduce((sum, count) => sum + count, 0)
  return reshaped(g, rows.length === 1 ? rows[0]! : g.concat(rows, 0), [size])
}
