/** @file Arithmetic on rows of logits: log-sum-exp, drawing a token. Knows no model. */

import { QuantError } from '../errors.ts'
import type { Random } from './rng.ts'

function maxOf(logits: Float32Array, start: number, end: number): number {
  let max = -Infinity
  for (let i = start; i < end; i++) if (logits[i]! > max) max = logits[i]!
  return max
}

/** A NaN or +Infinity anywhere in a row, or -Infinity everywhere, makes the sum of its exponentials NaN. */
function checkSum(sum: number): void {
  if (!Number.isNaN(sum)) return
  throw new QuantError(
    'E_RUNTIME',
    'the model gave logits that are not numbers (NaN or infinite)',
    'Its weights or activations overflow, as float16 files may on a CPU: use the float32 file.',
  )
}

/**
 * log(sum(exp(logits))) of one row, summed in float64, shifted by the largest so that nothing overflows.
 * @throws E_RUNTIME when the row has NaN or +Infinity.
 */
export function logSumExp(logits: Float32Array, start: number, length: number): number {
  const end = start + length
  const max = maxOf(logits, start, end)
  let sum = 0
  for (let i = start; i < end; i++) sum += Math.exp(logits[i]! - max)
  checkSum(sum)
  return max + Math.log(sum)
}

export interface SamplingOptions {
  /** 1 draws from the model's own distribution; below 1 is more careful. Must be above 0. */
  readonly temperature?: number | undefined
  /** Draw only from the likeliest this many (more where they tie). */
  readonly topK?: number | undefined
}

/**
 * Draws a token from softmax(logits / temperature) of one row.
 * @throws E_RUNTIME when the row has NaN or +Infinity.
 */
export function drawToken(
  logits: Float32Array,
  start: number,
  length: number,
  random: Random,
  { temperature = 1, topK }: SamplingOptions = {},
): number {
  const max = maxOf(logits, start, start + length)
  let least = -Infinity
  if (topK !== undefined && topK < length) {
    least = logits.slice(start, start + length).sort()[length - topK]!
  }
  const weights = new Float64Array(length)
  let sum = 0
  for (let i = 0; i < length; i++) {
    const value = logits[start + i]!
    if (value < least) continue
    sum += weights[i] = Math.exp((value - max) / temperature)
  }
  checkSum(sum)
  let rest = random.next() * sum
  let last = 0
  for (let i = 0; i < length; i++) {
    if (weights[i] === 0) continue
    rest -= weights[i]!
    if (rest < 0) return i
    last = i
  }
  return last // rounding left a crumb beyond the last token that has any weight
}
