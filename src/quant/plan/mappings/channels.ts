/**
 * @file Channel of every element of a value, carried through ops that only move elements. An array with strides: an axis that
 * channels do not depend on has stride 0, so that 2048 tokens cost as much as one. Knows no op and no scale.
 */

import { broadcastShapes, type Shape } from '../../../graph/shape.ts'
import { elementCount } from '../../../graph/tensor.ts'
import { type Axis, coalesce, dense, type Factor, refine, sizeOf, splitOuter, walk } from './axis-factors.ts'

/**
 * An id for every element of a value; -1 where it belongs to no channel. Methods take the ONNX op's arguments, axes counted from the
 * front, and return undefined for the few arrangements that strides cannot say.
 */
export class Channels {
  private readonly axes: readonly Axis[]
  private readonly ids: Int32Array
  private readonly offset: number

  private constructor(axes: readonly Axis[], ids: Int32Array, offset = 0) {
    this.axes = axes.map(coalesce)
    this.ids = ids
    this.offset = offset
  }

  /** No element belongs to a channel. */
  static none(shape: Shape): Channels {
    return new Channels(
      shape.map(size => [{ size, stride: 0 }]),
      Int32Array.of(-1),
    )
  }

  /** Every element has an id of its own: first, first + 1, ... in row-major order, the last `rank` axes only. */
  static numbered(shape: Shape, first: number, rank: number = shape.length): Channels {
    const from = shape.length - rank
    const axes = shape.map((size, i) => [{ size, stride: i < from ? 0 : elementCount(shape.slice(i + 1)) }])
    const ids = Int32Array.from({ length: elementCount(shape.slice(from)) }, (_, i) => first + i)
    return new Channels(axes, ids)
  }

  get shape(): Shape {
    return this.axes.map(sizeOf)
  }

  /** True where ids are the same all along an axis. */
  isConstantAlong(axis: number): boolean {
    return this.axes[axis]!.every(({ stride }) => stride === 0)
  }

  /** The ids that occur, some of them several times. */
  distinct(): Int32Array {
    const factors = this.axes.flat().filter(({ stride }) => stride !== 0)
    const result = new Int32Array(sizeOf(factors))
    let next = 0
    const sizes = factors.map(({ size }) => size)
    walk(sizes, [factors.map(({ stride }) => stride)], ([at]) => (result[next++] = this.ids[this.offset + at!]!))
    return result
  }

  /** Ids along one axis, where they depend on no other; undefined where they do. */
  along(axis: number): Int32Array | undefined {
    if (this.axes.some((_, i) => i !== axis && !this.isConstantAlong(i))) return undefined
    const factors = this.axes[axis]!
    const result = new Int32Array(sizeOf(factors))
    let next = 0
    const strides = factors.map(({ stride }) => stride)
    const sizes = factors.map(({ size }) => size)
    walk(sizes, [strides], ([at]) => (result[next++] = this.ids[this.offset + at!]!))
    return result
  }

  transpose(perm: readonly number[]): Channels {
    return new Channels(
      perm.map(axis => this.axes[axis]!),
      this.ids,
      this.offset,
    )
  }

  reshape(shape: Shape): Channels | undefined {
    const rest = [...coalesce(this.axes.flat())]
    const axes: Factor[][] = []
    for (const dim of shape) {
      const axis: Factor[] = []
      let left = dim
      while (left > 1) {
        const factor = rest.shift()
        if (!factor) return undefined
        if (left % factor.size === 0) {
          axis.push(factor)
          left /= factor.size
        } else {
          const parts = splitOuter(factor, left)
          if (!parts) return undefined
          axis.push(parts[0])
          rest.unshift(parts[1])
          left = 1
        }
      }
      axes.push(axis)
    }
    return rest.length === 0 ? new Channels(axes, this.ids, this.offset) : undefined
  }

  /** Broadcast to `shape`, which is at least as large on every axis. */
  expand(shape: Shape): Channels {
    const added = shape.length - this.axes.length
    const axes = shape.map((size, i) => {
      const axis = this.axes[i - added] ?? []
      return size > 1 && axis.length === 0 ? [{ size, stride: 0 }] : axis
    })
    return new Channels(axes, this.ids, this.offset)
  }

  tile(repeats: readonly number[]): Channels {
    const axes = this.axes.map((axis, i) => [{ size: repeats[i]!, stride: 0 }, ...axis])
    return new Channels(axes, this.ids, this.offset)
  }

  /** The same with `axis` in one factor. */
  private flattened(axis: number): Channels {
    return this.axes[axis]!.length < 2 ? this : this.take(axis, [...Array(this.shape[axis]!).keys()])
  }

  slice(axis: number, start: number, step: number, size: number): Channels {
    const source = this.flattened(axis)
    const [factor] = source.axes[axis]!
    const stride = factor?.stride ?? 0
    const axes = source.axes.with(axis, [{ size, stride: stride * step }])
    return new Channels(axes, source.ids, source.offset + start * stride)
  }

  /** Gather with a list of indices along `axis`. */
  take(axis: number, indices: readonly number[]): Channels {
    const own = this.axes[axis]!
    const offsets: number[] = []
    const strides = own.map(({ stride }) => stride)
    const sizes = own.map(({ size }) => size)
    walk(sizes, [strides], ([at]) => offsets.push(at!))
    const others = this.axes.flatMap((factors, i) => (i === axis ? [] : factors.filter(({ stride }) => stride !== 0)))
    const ids = new Int32Array(sizeOf(others) * indices.length)
    let next = 0
    walk(
      others.map(({ size }) => size),
      [others.map(({ stride }) => stride)],
      ([at]) => {
        for (const index of indices) ids[next++] = this.ids[this.offset + at! + offsets[index]!]!
      },
    )
    let stride = ids.length
    const axes = this.axes.map((factors, i) =>
      i === axis
        ? [{ size: indices.length, stride: 1 }]
        : factors.map(factor =>
            factor.stride === 0 ? factor : { size: factor.size, stride: (stride /= factor.size) },
          ),
    )
    return new Channels(axes, ids)
  }

  static concat(parts: readonly Channels[], axis: number): Channels | undefined {
    const flat = parts.map(part => part.flattened(axis))
    const rank = flat[0]!.axes.length
    const total = flat.reduce((sum, part) => sum + sizeOf(part.axes[axis]!), 0)
    const axes: Factor[][] = []
    const varying: Factor[][] = flat.map(() => [])
    for (let i = 0; i < rank; i++) {
      const factors = i === axis ? flat.map(() => []) : refine(flat.map(part => part.axes[i]!))
      if (!factors) return undefined
      axes.push([])
      for (const [j, { size }] of factors[0]!.entries()) {
        const varies = factors.some(list => list[j]!.stride !== 0)
        if (varies) factors.forEach((list, part) => varying[part]!.push(list[j]!))
        axes[i]!.push({ size, stride: varies ? 1 : 0 })
      }
    }
    const sizes = varying[0]!.map(({ size }) => size)
    const ids = new Int32Array(elementCount(sizes) * total)
    let next = 0
    walk(
      sizes,
      varying.map(list => list.map(({ stride }) => stride)),
      at => {
        for (const [i, part] of flat.entries()) {
          const [factor] = part.axes[axis]!
          const size = factor?.size ?? 1
          for (let k = 0; k < size; k++) ids[next++] = part.ids[part.offset + at[i]! + k * (factor?.stride ?? 0)]!
        }
      },
    )
    return new Channels(dense(axes.with(axis, [{ size: total, stride: 1 }]), axis), ids)
  }

  /** Results of `combine` for the ids of `a` and `b`, broadcast to each other. It is called once for every pair that occurs. */
  static zip(a: Channels, b: Channels, combine: (a: number, b: number) => number): Channels | undefined {
    const shape = broadcastShapes(a.shape, b.shape)
    const [x, y] = [a.expand(shape), b.expand(shape)]
    const axes: Factor[][] = []
    const varying: Factor[][] = [[], []]
    for (let i = 0; i < shape.length; i++) {
      const factors = refine([x.axes[i]!, y.axes[i]!])
      if (!factors) return undefined
      axes.push([])
      for (const [j, { size, stride }] of factors[0]!.entries()) {
        const other = factors[1]![j]!
        const varies = stride !== 0 || other.stride !== 0
        if (varies) varying.forEach((list, k) => list.push(factors[k]![j]!))
        axes[i]!.push({ size, stride: varies ? 1 : 0 })
      }
    }
    const sizes = varying[0]!.map(({ size }) => size)
    const ids = new Int32Array(elementCount(sizes))
    let next = 0
    walk(
      sizes,
      varying.map(list => list.map(({ stride }) => stride)),
      ([i, j]) => (ids[next++] = combine(x.ids[x.offset + i!]!, y.ids[y.offset + j!]!)),
    )
    return new Channels(dense(axes), ids)
  }
}
