/** @file Arithmetic on rows of logits: half precision to numbers, log-sum-exp, drawing a token. Knows no model. */

import { internalError, QuantError } from '../errors.ts'
import { readElements, type Tensor } from '../graph/tensor.ts'
import type { Random } from './rng.ts'

let halves: Float32Array | undefined

/** Every float16 as a number, by its bit pattern: sign 1, exponent 5 (bias 15), fraction 10 bits (IEEE 754-2008). */
function halfTable(): Float32Array {
  halves ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1
    const exponent = (bits >> 10) & 31
    const fraction = bits & 1023
    if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
  })
  return halves
}

/** Logits as float32; float16 is converted exactly. */
export function logitsOf(tensor: Tensor): Float32Array {
  const elements = readElements(tensor)
  if (elements instanceof Float32Array) return elements
  if (tensor.dtype !== 'float16') throw internalError(`logits are ${tensor.dtype}`)
  const table = halfTable()
  const patterns = elements as Uint16Array
  const result = new Float32Array(patterns.length)
  for (let i = 0; i < result.length; i++) result[i] = table[patterns[i]!]!
  return result
}

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
