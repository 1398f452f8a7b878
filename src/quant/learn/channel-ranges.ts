/** @file Least and greatest value of every channel of a block's activations. */

import type { Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import type { Observer } from './observer.ts'

interface Range {
  readonly max: Float32Array
  readonly min: Float32Array
}

/** Least and greatest activation of every channel of some values, over all samples. */
export class ChannelRanges {
  private readonly ranges: ReadonlyMap<Value, { max: Float32Array; min: Float32Array }>

  constructor(values: readonly Value[] = []) {
    this.ranges = new Map(values.map(value => [value, { max: new Float32Array(0), min: new Float32Array(0) }]))
  }

  /** Observers of a forward run, which fill in the ranges. */
  get observers(): Observer[] {
    return [...this.ranges].flatMap(([value, range]) =>
      (['max', 'min'] as const).map((over): Observer => {
        const shape = staticShape(value)
        return {
          shape: shape.slice(-1),
          over,
          emit: (g, sample) =>
            g.op(
              over === 'max' ? 'ReduceMax' : 'ReduceMin',
              [sample.value(value), g.ints([...Array(shape.length - 1).keys()])],
              { keepdims: 0 },
            ),
          take: result => void (range[over] = result),
        }
      }),
    )
  }

  of(value: Value): Range {
    return this.ranges.get(value)!
  }
}
