/** @file Arithmetic on static shapes: broadcasting, axes, and a check against named dimensions. */

import { internalError, QuantError } from '../errors.ts'
import { isFileRange } from '../files/file-range.ts'
import type { Node, Value } from './ir.ts'
import { elementCount, readNumbers } from './tensor.ts'

export type Shape = readonly number[]

/** The shape of a value whose dimensions are all known. @throws E_UNSUPPORTED, naming the value, when one is not. */
export function staticShape(value: Value): Shape {
  const shape = value.shape
  if (shape === undefined || shape.some(dim => typeof dim !== 'number')) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `the shape of "${value.name}" depends on data: [${shape?.map(dim => dim ?? '?').join(', ') ?? '?'}]`,
    )
  }
  return shape as Shape
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i])
}

/** Shape of an elementwise result (numpy rules, as ONNX). */
export function broadcastShapes(...shapes: Shape[]): Shape {
  const rank = Math.max(...shapes.map(shape => shape.length))
  return Array.from({ length: rank }, (_, i) => {
    let result = 1
    for (const shape of shapes) {
      const dim = shape[i - rank + shape.length] ?? 1
      if (dim === 1) continue
      if (result !== 1 && result !== dim)
        throw internalError(`shapes do not broadcast: ${shapes.map(s => `[${s.join(', ')}]`).join(' with ')}`)
      result = dim
    }
    return result
  })
}

/** Shape of a matrix product (numpy rules, as ONNX MatMul). */
export function matMulShape(a: Shape, b: Shape): Shape {
  const left = a.length === 1 ? [1, ...a] : a
  const right = b.length === 1 ? [...b, 1] : b
  if (a.length === 0 || b.length === 0 || left.at(-1) !== right.at(-2))
    throw internalError(`[${a.join(', ')}] cannot be multiplied with [${b.join(', ')}]`)
  const batch = broadcastShapes(left.slice(0, -2), right.slice(0, -2))
  return [...batch, ...(a.length === 1 ? [] : [left.at(-2)!]), ...(b.length === 1 ? [] : [right.at(-1)!])]
}

/** Axis counted from the front. */
export function normalizeAxis(axis: number, rank: number): number {
  const result = axis < 0 ? axis + rank : axis
  if (result < 0 || result >= Math.max(rank, 1)) throw internalError(`axis ${axis} does not exist in rank ${rank}`)
  return result
}

/** Numbers of a constant input held in memory; undefined when absent or not constant. */
export function constantNumbers(value: Value | undefined): number[] | undefined {
  return value?.tensor === undefined || isFileRange(value.tensor.data) ? undefined : readNumbers(value.tensor)
}

/** As `constantNumbers`, for inputs that must be there. @throws E_UNSUPPORTED naming node and input. */
export function requireConstant(node: Node, index: number): number[] {
  return requireConstantValue(node, index, node.inputs[index])
}

/** As `requireConstant`, with `value` in place of the input. */
export function requireConstantValue(node: Node, index: number, value: Value | undefined): number[] {
  const numbers = constantNumbers(value)
  if (numbers === undefined) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `input ${index} of ${node.kind} "${node.name}" must be constant for a fixed batch and sequence length`,
    )
  }
  return numbers
}

/**
 * Checks a value against named dimensions: `checkShape(dims, x, ['tokens', 'K'])`. A name gets its size at its first use.
 * @throws E_INTERNAL naming the dimension that disagrees.
 */
export function checkShape(dims: Map<string, number>, value: Value, names: readonly (string | number)[]): Shape {
  const shape = staticShape(value)
  const got = `"${value.name}" is [${shape.join(', ')}]`
  if (shape.length !== names.length) throw internalError(`${got}, expected [${names.join(', ')}]`)
  names.forEach((name, i) => {
    const expected = typeof name === 'number' ? name : (dims.get(name) ?? shape[i])
    if (typeof name === 'string') dims.set(name, expected as number)
    if (shape[i] !== expected) throw internalError(`${got}, expected ${name} = ${expected} at dimension ${i}`)
  })
  return shape
}

/** Resolves the 0 and -1 of a Reshape target. */
export function reshapeTarget(input: Shape, target: readonly number[], allowZero: boolean): Shape {
  const dims = target.map((dim, i) => (dim === 0 && !allowZero ? (input[i] ?? 0) : dim))
  const rest = elementCount(dims.filter(dim => dim !== -1))
  const result = dims.map(dim => (dim === -1 ? (rest === 0 ? 0 : elementCount(input) / rest) : dim))
  if (elementCount(result) !== elementCount(input) || !result.every(Number.isInteger))
    throw internalError(`cannot reshape [${input.join(', ')}] to [${target.join(', ')}]`)
  return result
}
