/** @file Start of the equivalent transformations: scales and shifts from channel ranges (SmoothQuant, arXiv 2211.10438 eq. 4). */

import type { Value } from '../../graph/ir.ts'
import { readElements } from '../../graph/tensor.ts'
import type { Tensors } from '../../kernels/session.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { type Mapping, rowsOf } from '../plan/mappings/mapping.ts'
import type { ChannelRanges } from './channel-ranges.ts'
import { weightInput } from './ports.ts'

/** First scales and shifts of a mapping, [size] each. */
export interface InitialEquivalence {
  readonly scale: Float32Array
  /** Used where the mapping has a shift. */
  readonly shift: Float32Array
}

/** Least magnitude that counts, of activations, weights and scales (reference implementation). */
const LEAST = 1e-5

/** Greatest magnitude in each row of w [K, N]. */
function rowMaxima(w: Float32Array, K: number, N: number): Float32Array {
  return Float32Array.from({ length: K }, (_, k) => {
    let most = 0
    for (let i = k * N; i < (k + 1) * N; i++) most = Math.max(most, Math.abs(w[i]!))
    return most
  })
}

/** Raises `into` [size] to the greatest value among the elements that share each scale. */
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
  // Least activations, negated, so that both sides are maxima.
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

/** Inputs of the linears whose rows are scaled: `initialEquivalence` reads their channel ranges. */
export function observedValues({ mappings }: BlockPlan): Value[] {
  return [...new Set(mappings.flatMap(rowsOf).map(({ linear }) => linear.node.inputs[0]!))]
}

/**
 * First scales and shifts of every mapping of the plan.
 * @param ranges of the `observedValues`. @param weights run inputs w{i}, float32 [K, N]. @param alpha 0 to 1.
 */
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
