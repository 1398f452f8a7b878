/** @file Least and greatest value of every channel of a block's activations. */

import type { Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { readElements } from '../../graph/tensor.ts'
import type { Tensors } from '../../kernels/session.ts'
import { maximumName, minimumName } from './ports.ts'

/** Least and greatest activation of every channel of some values, over all samples. */
export class ChannelRanges {
  readonly values: readonly Value[]
  private readonly ranges: { readonly max: Float32Array; readonly min: Float32Array }[]

  constructor(values: readonly Value[] = []) {
    this.values = values
    this.ranges = values.map(value => {
      const channels = staticShape(value).at(-1)!
      return { max: new Float32Array(channels).fill(-Infinity), min: new Float32Array(channels).fill(Infinity) }
    })
  }

  /** Takes in one run of a forward program that observes `values`. */
  add(outputs: Tensors): void {
    this.ranges.forEach(({ max, min }, j) => {
      ;(readElements(outputs[maximumName(j)]!) as Float32Array).forEach((x, i) => (max[i] = Math.max(max[i]!, x)))
      ;(readElements(outputs[minimumName(j)]!) as Float32Array).forEach((x, i) => (min[i] = Math.min(min[i]!, x)))
    })
  }

  of(value: Value): { readonly max: Float32Array; readonly min: Float32Array } {
    return this.ranges[this.values.indexOf(value)]!
  }
}
