/** @file Random weights and quantizers for the tests of this folder. */

import fc from 'fast-check'
import type { WeightQuantizer } from '../../src/kernels/qparams.ts'

/** Numbers between -1 and 1, the same for the same seed. */
export function noise(length: number, seed: number): Float32Array {
  let state = Math.imul(seed, 2654435761) >>> 0
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

/** Grids of a quantizer: asymmetric, symmetric with a signed scale, symmetric with a positive one. */
export const GRIDS: readonly Pick<WeightQuantizer, 'symmetric' | 'positiveScale'>[] = [
  { symmetric: false },
  { symmetric: true },
  { symmetric: true, positiveScale: true },
]

export interface WeightCase {
  readonly K: number
  readonly N: number
  readonly quantizer: WeightQuantizer
  readonly seed: number
  /** True when ratios clip the range. */
  readonly clipped: boolean
}

/** Shapes with full, ragged, single and one-weight groups. */
export const weightCases: fc.Arbitrary<WeightCase> = fc.record({
  K: fc.integer({ min: 1, max: 80 }),
  N: fc.integer({ min: 1, max: 9 }),
  quantizer: fc.record({
    bits: fc.integer({ min: 2, max: 8 }),
    group: fc.constantFrom(1, 5, 16, 32, 64, 1000),
    symmetric: fc.boolean(),
    positiveScale: fc.boolean(),
    scaleDtype: fc.constantFrom('float32', 'float16'),
  }),
  seed: fc.integer({ min: 1, max: 1e6 }),
  clipped: fc.boolean(),
})

/** Weights of a case: some columns tiny, some far from zero on one side, many exactly on ties. */
export function weightsOf({ K, N, seed }: WeightCase): Float32Array {
  return noise(K * N, seed).map((x, i) => {
    const column = i % N
    if (column % 4 === 1) return x * 1e-4
    if (column % 4 === 2) return Math.round(x * 8) / 2
    return column % 4 === 3 ? x + 3 : x
  })
}
