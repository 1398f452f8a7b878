/** @file Figures of an evaluation from rows of logits: losses, divergence, agreement, and the standard errors of their means. Knows no model. */

import { logSumExp } from './logits.ts'

/** Logits of one window, [positions, vocabulary], inside a larger array. */
export interface WindowLogits {
  readonly logits: Float32Array
  /** Index of the first logit. */
  readonly start: number
  readonly vocabulary: number
}

/** Mean, and its standard error: NaN where there is one window only. */
export interface MeanWithError {
  readonly mean: number
  readonly error: number
}

/** Distance of a model's next-token distributions Q from those of a reference P. Logarithms are natural. */
export interface Divergence {
  /** Mean of KL(P || Q) over token positions. */
  readonly klMean: number
  /** Standard error of that mean over windows. */
  readonly klMeanError: number
  readonly klMedian: number
  /** 99 % of the positions have no larger divergence. */
  readonly kl99: number
  /** Share of the positions at which both have the same likeliest token. */
  readonly sameTop: number
  /** Standard error of that share over windows. */
  readonly sameTopError: number
}

/** Logits of one position as a slice of an array. */
const rowStart = ({ start, vocabulary }: WindowLogits, position: number): number => start + position * vocabulary

/** -log softmax(logits[position])[token], in float64. @throws E_RUNTIME when the row has NaN or +Infinity. */
export function lossAt(window: WindowLogits, position: number, token: number): number {
  const row = rowStart(window, position)
  return logSumExp(window.logits, row, window.vocabulary) - window.logits[row + token]!
}

/** Divergence at one position. */
export interface PositionDivergence {
  /** KL(P || Q) = sum of p log(p / q), in float64. Infinite where Q excludes a token that P does not. */
  readonly kl: number
  readonly sameTop: boolean
}

/**
 * Compares two distributions over the next token. Of tokens that tie for the likeliest, the first counts.
 * @param reference P. @param model Q, over the same vocabulary.
 * @throws E_RUNTIME when a row has NaN or +Infinity.
 */
export function divergenceAt(reference: WindowLogits, model: WindowLogits, position: number): PositionDivergence {
  const { vocabulary } = reference
  const [p, q] = [reference.logits, model.logits]
  const [pStart, qStart] = [rowStart(reference, position), rowStart(model, position)]
  const pLogSum = logSumExp(p, pStart, vocabulary)
  const shift = logSumExp(q, qStart, vocabulary) - pLogSum
  let kl = 0
  let pTop = 0
  let qTop = 0
  for (let i = 0; i < vocabulary; i++) {
    const pLogit = p[pStart + i]!
    const qLogit = q[qStart + i]!
    if (pLogit > p[pStart + pTop]!) pTop = i
    if (qLogit > q[qStart + qTop]!) qTop = i
    const probability = Math.exp(pLogit - pLogSum)
    // 0 log 0 is 0, also where Q excludes the token as well.
    if (probability > 0) kl += probability * (pLogit - qLogit + shift)
  }
  // Rounding may leave -1e-17 of two equal distributions.
  return { kl: Math.max(0, kl), sameTop: pTop === qTop }
}

/**
 * Mean of values that came in windows, with the standard error of the mean over windows: tokens of one window depend on each other, so
 * they do not count as independent. For windows of n_i values that sum to s_i, with N = sum n_i, m = sum s_i / N and k windows, the error
 * is sqrt(k / (k - 1) * sum (s_i - m n_i)^2) / N, the error of a ratio (Cochran, Sampling Techniques, 3rd edition, 6.3). With windows of
 * one length this is the standard deviation of the windows' means divided by sqrt(k).
 * @param sums s_i. @param counts n_i.
 */
export function meanOverWindows(sums: ArrayLike<number>, counts: ArrayLike<number>): MeanWithError {
  const windows = counts.length
  let total = 0
  let sum = 0
  for (let i = 0; i < windows; i++) {
    total += counts[i]!
    sum += sums[i]!
  }
  const mean = sum / total
  let squares = 0
  for (let i = 0; i < windows; i++) squares += (sums[i]! - mean * counts[i]!) ** 2
  return { mean, error: windows < 2 ? NaN : Math.sqrt((windows / (windows - 1)) * squares) / total }
}

/** Quantile of sorted values, interpolated between neighbours (type 7 of Hyndman and Fan, as numpy has it). */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const at = (sorted.length - 1) * share
  const [below, above] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!]
  return below === above ? below : below + (above - below) * (at - Math.floor(at))
}

/**
 * Divergence over windows.
 * @param kl divergence at each position, window after window; sorted in place. @param klSums sums over windows.
 * @param agreements positions of each window with the same likeliest token. @param counts positions of each window.
 */
export function summarizeDivergence(
  kl: Float64Array,
  klSums: ArrayLike<number>,
  agreements: ArrayLike<number>,
  counts: ArrayLike<number>,
): Divergence {
  kl.sort()
  const mean = meanOverWindows(klSums, counts)
  const same = meanOverWindows(agreements, counts)
  return {
    klMean: mean.mean,
    klMeanError: mean.error,
    klMedian: quantile(kl, 0.5),
    kl99: quantile(kl, 0.99),
    sameTop: same.mean,
    sameTopError: same.error,
  }
}
