/** @file Five numbers about many. */

import { quantile } from '../../calibration/measures.ts'
import type { Spread } from '../terms/learning-report.ts'

/** Spread of numbers; between two of them it is interpolated. Undefined for none, and where one is NaN. */
export function spreadOf(numbers: Float32Array): Spread | undefined {
  if (numbers.length === 0 || numbers.some(Number.isNaN)) return undefined
  const sorted = Float32Array.from(numbers).sort()
  const at = (share: number) => quantile(sorted, share)
  return { least: at(0), lower: at(1 / 4), median: at(1 / 2), upper: at(3 / 4), greatest: at(1) }
}
