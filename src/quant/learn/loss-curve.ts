/** @file Losses of training in as few numbers as a plot shows. */

import type { LossCurve } from '../terms/learning-report.ts'

/** Most points of a curve: more are not seen, and a report is also read as text. */
const POINTS = 100

/** Mean of the finite numbers; NaN for none. */
function meanFinite(numbers: Float32Array): number {
  const finite = numbers.filter(Number.isFinite)
  return finite.reduce((sum, number) => sum + number, 0) / finite.length
}

/**
 * Losses as if all samples were equally hard: each divided by the mean loss of its sample, times the mean of all. Samples differ more from
 * each other than an epoch from the next. After one epoch nothing is known of how hard a sample is.
 */
function evened(losses: Float32Array, samples: number): Float32Array {
  const epochs = losses.length / samples
  if (epochs <= 1) return losses
  const all = meanFinite(losses)
  const ofSample = Float32Array.from({ length: samples }, (_, i) =>
    meanFinite(Float32Array.from({ length: epochs }, (_, epoch) => losses[epoch * samples + i]!)),
  )
  return losses.map((loss, step) => {
    const mean = ofSample[step % samples]!
    return mean > 0 ? (loss / mean) * all : loss
  })
}

/** Means of stretches of steps. @param losses before each step, the samples in order in every epoch; NaN where it was not finite. */
export function lossCurve(losses: Float32Array, samples: number): LossCurve | undefined {
  const steps = losses.length
  if (steps === 0) return undefined
  const points = Math.min(POINTS, steps)
  const even = evened(losses, samples)
  const means = Array.from({ length: points }, (_, i) =>
    meanFinite(even.subarray(Math.floor((i * steps) / points), Math.floor(((i + 1) * steps) / points))),
  )
  return { steps, means }
}
