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

/** Logits of one upper bound. */
const BLOCK = 16

/** The largest logit of every block of a row. @throws E_RUNTIME when the row has NaN. */
function blockMaxima(logits: Float32Array, start: number, length: number): Float32Array {
  const maxima = new Float32Array(Math.ceil(length / BLOCK))
  for (let block = 0; block < maxima.length; block++) {
    const end = start + Math.min(length, (block + 1) * BLOCK)
    let max = -Infinity
    for (let i = start + block * BLOCK; i < end; i++) {
      const value = logits[i]!
      if (value > max) max = value
      else if (Number.isNaN(value)) checkSum(value)
    }
    maxima[block] = max
  }
  return maxima
}

/** Index of the first of rising `sums` that is above `value`. */
function firstAbove(sums: Float64Array, value: number): number {
  let [low, high] = [0, sums.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (sums[middle]! > value) high = middle
    else low = middle + 1
  }
  return low
}

/**
 * Draws a token from softmax(logits / temperature) of one row, by rejection: a block of logits by the weight it has if all of them were
 * its largest, then a token of it, which stays as often as its own weight is of that. The distribution is exact, and an exponential is
 * needed for every block only, not for every token.
 * @throws E_RUNTIME when the row has NaN or +Infinity.
 */
export function drawToken(
  logits: Float32Array,
  start: number,
  length: number,
  random: Random,
  { temperature = 1, topK }: SamplingOptions = {},
): number {
  const maxima = blockMaxima(logits, start, length)
  const max = maxOf(maxima, 0, maxima.length)
  checkSum(max - max)
  let least = -Infinity
  if (topK !== undefined && topK < length) {
    least = logits.slice(start, start + length).sort()[length - topK]!
  }
  const sizeOf = (block: number) => Math.min(BLOCK, length - block * BLOCK)
  const sums = new Float64Array(maxima.length)
  let sum = 0
  maxima.forEach((largest, block) => {
    if (largest >= least) sum += sizeOf(block) * Math.exp((largest - max) / temperature)
    sums[block] = sum
  })
  for (;;) {
    const block = firstAbove(sums, random.next() * sum)
    if (block === sums.length) continue // rounding left a crumb beyond the last block
    const token = block * BLOCK + random.int(sizeOf(block))
    const value = logits[start + token]!
    if (value >= least && random.next() < Math.exp((value - maxima[block]!) / temperature)) return token
  }
}
