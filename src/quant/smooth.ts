/**
 * @file What transformations start from: the balance of SmoothQuant (arXiv 2211.10438 eq. 4) between activations and weights, from
 * what was seen on the calibration samples, and shifts that put every channel's middle at zero (arXiv 2308.13137 section 3.3).
 */

import { readElements } from '../graph/tensor.ts'
import type { Tensors } from '../kernels/session.ts'
import type { Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import type { InitialEquivalence } from './equivalence.ts'
import type { Linear } from './linears.ts'
import { type Mapping, rowsOf } from './mappings/mappings.ts'
import type { BlockPlan } from './plan.ts'
import { maximumName, minimumName, weightInput } from './programs.ts'

/** Least magnitude that counts, of activations, weights and scales (reference implementation). */
const LEAST = 1e-5

/** Least and greatest activation of every channel of some values, over all samples. */
export class ChannelRanges {
  readonly values: readonly Value[]
  private readonly ranges: { readonly max: Float32Array; readonly min: Float32Array }[]

  constructor(values: readonly Value[]) {
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

/** What a plan's linears read: the values to be observed for `initialEquivalence`. */
export function observedValues({ mappings }: BlockPlan): Value[] {
  return [...new Set(mappings.flatMap(rowsOf).map(({ linear }) => linear.node.inputs[0]!))]
}

/** Greatest magnitude in each row of w [K, N]. */
function rowMaxima(w: Float32Array, K: number, N: number): Float32Array {
  return Float32Array.from({ length: K }, (_, k) => {
    let most = 0
    for (let i = k * N; i < (k + 1) * N; i++) most = Math.max(most, Math.abs(w[i]!))
    return most
  })
}

/** values of an end's elements -> the greatest of every scale. */
function maximaPerScale(into: Float32Array, scales: Int32Array, values: (i: number) => number): void {
  scales.forEach((scale, i) => {
    if (scale >= 0) into[scale] = Math.max(into[scale]!, values(i))
  })
}

/** Scale = max|x|^alpha / max|w|^(1 - alpha) per channel, over all linears that read it; 1 between queries and keys. */
function initialOf(
  mapping: Mapping,
  ranges: ChannelRanges,
  rowMaximaOf: (linear: Linear) => Float32Array,
  alpha: number,
): InitialEquivalence {
  const { size, shift } = mapping
  const rows = rowsOf(mapping)
  if (rows.length === 0) return { scale: new Float32Array(size).fill(1), shift: new Float32Array(size) }
  const max = new Float32Array(size).fill(-Infinity)
  // Least activations with their sign turned, so that both sides are maxima.
  const below = new Float32Array(size).fill(-Infinity)
  const weights = new Float32Array(size)
  for (const { linear, scales } of rows) {
    const seen = ranges.of(linear.node.inputs[0]!)
    const weight = rowMaximaOf(linear)
    maximaPerScale(max, scales, i => seen.max[i]!)
    maximaPerScale(below, scales, i => -seen.min[i]!)
    maximaPerScale(weights, scales, i => weight[i]!)
  }
  const middle = max.map((high, i) => (high - below[i]!) / 2)
  const magnitude = max.map((high, i) => (shift ? (high + below[i]!) / 2 : Math.max(high, below[i]!)))
  const scale = magnitude.map((x, i) =>
    Math.max(LEAST, Math.max(x, LEAST) ** alpha / Math.max(weights[i]!, LEAST) ** (1 - alpha)),
  )
  return { scale, shift: middle }
}

/** Where learning starts, for every mapping of the plan. @param weights run inputs w{i}, float32 [K, N]. */
export function initialEquivalence(
  { block, mappings }: BlockPlan,
  ranges: ChannelRanges,
  weights: Tensors,
  alpha: number,
): InitialEquivalence[] {
  const known = new Map<Linear, Float32Array>()
  const rowMaximaOf = (linear: Linear) => {
    if (!known.has(linear)) {
      const w = readElements(weights[weightInput(block.linears.indexOf(linear))]!) as Float32Array
      known.set(linear, rowMaxima(w, linear.inFeatures, linear.outFeatures))
    }
    return known.get(linear)!
  }
  return mappings.map(mapping => initialOf(mapping, ranges, rowMaximaOf, alpha))
}
