/** @file Losses of training in as few numbers as a plot shows. */

import type { LossCurve } from '../terms/learning-report.ts'

/** Most points of a curve: more are not seen, and a report is also read as text. */
const POINTS = 100

/** Means of stretches of steps. @param losses before each step; NaN where it was not finite. */
export function lossCurve(losses: Float32Array): LossCurve | undefined {
  const steps = losses.length
  if (steps === 0) return undefined
  const points = Math.min(POINTS, steps)
  const means = Array.from({ length: points }, (_, i) => {
    const stretch = losses.subarray(Math.floor((i * steps) / points), Math.floor(((i + 1) * steps) / points))
    const finite = stretch.filter(Number.isFinite)
    return finite.length === 0 ? null : finite.reduce((sum, loss) => sum + loss, 0) / finite.length
  })
  return { steps, means }
}
