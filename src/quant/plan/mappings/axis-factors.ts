/** @file Axes of a strided array as products of factors, so that merged and split axes are told apart. Knows no channel. */

import { elementCount } from '../../../graph/tensor.ts'

/** Part of an axis: an axis of 8 heads by 16 tokens that were merged is two factors, the outer one first. */
export interface Factor {
  readonly size: number
  readonly stride: number
}

export type Axis = readonly Factor[]

export const sizeOf = (axis: Axis): number => elementCount(axis.map(({ size }) => size))

/** Joins neighbouring factors where strides allow it; an axis of size 1 has none. */
export function coalesce(factors: readonly Factor[]): Axis {
  const result: Factor[] = []
  for (const { size, stride } of factors) {
    if (size === 1) continue
    const outer = result.at(-1)
    if (outer && outer.stride === stride * size) result[result.length - 1] = { size: outer.size * size, stride }
    else result.push({ size, stride })
  }
  return result
}

/** The outermost part of a factor, and what is left of it; undefined when sizes do not divide. */
export function splitOuter({ size, stride }: Factor, outer: number): [Factor, Factor] | undefined {
  const inner = size / outer
  return Number.isInteger(inner)
    ? [
        { size: outer, stride: stride * inner },
        { size: inner, stride },
      ]
    : undefined
}

/** The same axis of several arrays in factors of the same sizes; undefined when their sizes do not divide. */
export function refine(axes: readonly Axis[]): Factor[][] | undefined {
  const rest = axes.map(axis => [...axis])
  const result: Factor[][] = axes.map(() => [])
  while (rest.some(factors => factors.length > 0)) {
    const size = Math.min(...rest.map(factors => factors[0]!.size))
    for (const [i, factors] of rest.entries()) {
      const parts = splitOuter(factors.shift()!, size)
      if (!parts) return undefined
      result[i]!.push(parts[0])
      if (parts[1].size > 1) factors.unshift(parts[1])
    }
  }
  return result
}

/** Calls `visit` with one offset per array for every index of the given factors, in row-major order. */
export function walk(
  sizes: readonly number[],
  strides: readonly (readonly number[])[],
  visit: (at: number[]) => void,
): void {
  const index = sizes.map(() => 0)
  const at = strides.map(() => 0)
  for (let left = elementCount(sizes); left > 0; left--) {
    visit(at)
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      index[axis]!++
      const wrapped = index[axis] === sizes[axis]
      const step = wrapped ? 1 - sizes[axis]! : 1
      for (let i = 0; i < at.length; i++) at[i]! += step * strides[i]![axis]!
      if (!wrapped) break
      index[axis] = 0
    }
  }
}

/** Row-major strides for the factors of stride 1, those of stride 0 left out of the count; `last` is counted last. */
export function dense(axes: readonly Axis[], last?: number): Factor[][] {
  const order = axes.map((_, i) => i)
  if (last !== undefined) order.push(...order.splice(last, 1))
  const result: Factor[][] = axes.map(() => [])
  let stride = 1
  for (const i of order.reverse())
    for (const factor of [...axes[i]!].reverse()) {
      result[i]!.unshift({ size: factor.size, stride: factor.stride === 0 ? 0 : stride })
      if (factor.stride !== 0) stride *= factor.size
    }
  return result
}
