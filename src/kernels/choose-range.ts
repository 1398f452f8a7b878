/** @file Chooses the fixed range of activations from their histogram: all of it, most of it, or the one with the least error. */

import type { ActivationHistogram, Bin } from './activation-histogram.ts'
import { qMax } from './qparams.ts'
import type { ActivationRange, RangeQuantizer } from './static-range.ts'

/** Ways to choose a range. */
export type RangeChoice = 'minmax' | 'percentile' | 'mse'

/** Share of the numbers that `percentile` leaves at either side of a bound. */
const PERCENTILE = 0.9999

/** Ratio of a bound to the next one that `mse` tries, and number of bounds: down to a fiftieth of the greatest number. */
const SHRINK = 0.98

const TRIES = 194

/** Times that `mse` goes through both bounds. The second one hardly moves them. */
const ROUNDS = 2

type Choose = (bins: readonly Bin[], extremes: ActivationRange, quantizer: RangeQuantizer) => ActivationRange

/** The number below which `share` of all numbers are, taken as even within a bin. */
function quantile(bins: readonly Bin[], share: number): number {
  const total = bins.reduce((sum, { count }) => sum + count, 0)
  let rest = share * total
  for (const { low, high, count } of bins) {
    if (rest <= count) return low + (high - low) * (rest / count)
    rest -= count
  }
  return bins.at(-1)!.high
}

/** Integral from 0 to t of the squared distance to the nearest integer. */
function squaredDistance(t: number): number {
  const nearest = Math.round(t)
  return nearest / 12 + (t - nearest) ** 3 / 3
}

/**
 * Sum of squared errors of the numbers in the bins, taken as even within a bin, when they are quantized over lo <= 0 <= hi: inside the
 * range the distance to the next step, beyond it the distance to the bound.
 */
export function quantizationError(
  bins: readonly Bin[],
  { lo, hi }: ActivationRange,
  { bits }: Pick<RangeQuantizer, 'bits'>,
): number {
  const step = (hi - lo) / qMax(bits)
  if (step === 0) return bins.reduce((sum, { low, high, count }) => sum + count * ((low + high) / 2) ** 2, 0)
  let sum = 0
  for (const { low, high, count } of bins) {
    const width = high - low
    if (width === 0) {
      const clipped = Math.min(Math.max(low, lo), hi)
      sum += count * (low - step * Math.round(clipped / step)) ** 2
      continue
    }
    const [from, to] = [Math.max(low, lo), Math.min(high, hi)]
    let error = from < to ? step ** 3 * (squaredDistance(to / step) - squaredDistance(from / step)) : 0
    if (high > hi) error += ((high - hi) ** 3 - Math.max(low - hi, 0) ** 3) / 3
    if (low < lo) error += ((lo - low) ** 3 - Math.max(lo - high, 0) ** 3) / 3
    sum += (count * error) / width
  }
  return sum
}

/** The range, within the extremes, whose error is least; bounds are shrunk one after the other. */
function leastError(bins: readonly Bin[], extremes: ActivationRange, quantizer: RangeQuantizer): ActivationRange {
  const whole = quantizationError(bins, extremes, quantizer)
  let [best, least] = [extremes, whole]
  for (let round = 0; round < ROUNDS; round++)
    for (const side of ['lo', 'hi'] as const)
      for (let i = 0, bound = extremes[side]; i < TRIES && bound !== 0; i++, bound *= SHRINK) {
        const range = { ...best, [side]: bound }
        const error = quantizationError(bins, range, quantizer)
        if (error < least) [best, least] = [range, error]
        // What is clipped alone is more than `least` then, and becomes more with every further step.
        else if (error > least + whole) break
      }
  return best
}

const CHOICES: Readonly<Record<RangeChoice, Choose>> = {
  minmax: (_bins, extremes) => extremes,
  percentile: (bins, { lo, hi }) => ({
    lo: Math.max(lo, Math.min(quantile(bins, 1 - PERCENTILE), 0)),
    hi: Math.min(hi, Math.max(quantile(bins, PERCENTILE), 0)),
  }),
  mse: leastError,
}

export const RANGE_CHOICES = Object.keys(CHOICES) as readonly RangeChoice[]

/** The range of the numbers in a histogram, zero included, in float32: lo <= 0 <= hi. Zeros alone have none: 0 to 0. */
export function chooseRange(
  histogram: ActivationHistogram,
  choice: RangeChoice,
  quantizer: RangeQuantizer,
): ActivationRange {
  if (histogram.size === 0) return { lo: 0, hi: 0 }
  const extremes = { lo: Math.min(histogram.min, 0), hi: Math.max(histogram.max, 0) }
  const { lo, hi } = CHOICES[choice](histogram.bins(), extremes, quantizer)
  return { lo: Math.fround(lo), hi: Math.fround(hi) }
}
