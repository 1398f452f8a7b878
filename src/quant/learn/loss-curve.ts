/** @file Losses of training in as few numbers as a plot shows. */

import type { LossCurve } from '../terms/learning-report.ts'

/** Most points of a curve: more are not seen, and a report is also read as text. */
const POINTS = 100

/** Windows of a single epoch: no window has all samples in it then. */
const WINDOWS_OF_EPOCH = 8

/** Mean of the finite numbers; NaN for none. */
function meanFinite(numbers: Float32Array): number {
  const finite = numbers.filter(Number.isFinite)
  return finite.reduce((sum, number) => sum + number, 0) / finite.length
}

/**
 * The curve of losses. Its windows are as long as an epoch: each has every sample once, and samples differ more from each other than an
 * epoch from the next.
 * @param losses before each step, the samples in order in every epoch; NaN where it was not finite.
 */
export function lossCurve(losses: Float32Array, samples: number): LossCurve | undefined {
  const steps = losses.length
  if (steps === 0) return undefined
  const window = steps > samples ? samples : Math.ceil(steps / WINDOWS_OF_EPOCH)
  const last = steps - window
  const points = Math.min(POINTS, last + 1)
  const means = Array.from({ length: points }, (_, i) => {
    const start = Math.round((i * last) / Math.max(1, points - 1))
    return meanFinite(losses.subarray(start, start + window))
  })
  return { steps, window, means }
}
