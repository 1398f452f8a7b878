/** @file Choice of the next token from logits: the likeliest, or a drawn one. Knows no model. */

import { drawToken, logSumExp } from './logits.ts'
import type { Random } from './rng.ts'

export interface Sampling {
  /** 0: the likeliest token. Above 0: drawn from softmax(logits / temperature). */
  readonly temperature: number
  /** Draw only from the likeliest this many. */
  readonly topK?: number | undefined
  /** Draw only from the likeliest tokens that together have at least this probability (nucleus sampling, arXiv 1904.09751). */
  readonly topP?: number | undefined
}

/** The first of the largest. */
function likeliest(logits: Float32Array): number {
  let best = 0
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i
  return best
}

/**
 * The next token. `topK` applies before `topP`, both after the temperature. Of tokens with equal logits the first ones count as likelier.
 * @param logits [vocabulary]. @param random used when the temperature is above 0.
 * @throws E_RUNTIME when there is NaN or +Infinity among the logits.
 */
export function chooseToken(logits: Float32Array, random: Random, { temperature, topK, topP }: Sampling): number {
  if (temperature === 0) {
    logSumExp(logits, 0, logits.length)
    return likeliest(logits)
  }
  if (topK === undefined && topP === undefined) return drawToken(logits, 0, logits.length, random, { temperature })
  const order = Uint32Array.from(logits, (_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b)
  const kept = order.subarray(0, topK ?? order.length)
  const scaled = Float32Array.from(kept, token => logits[token]! / temperature)
  const logSum = logSumExp(scaled, 0, scaled.length)
  let count = 0
  let mass = 0
  while (count < kept.length && (count === 0 || mass < (topP ?? Infinity))) mass += Math.exp(scaled[count++]! - logSum)
  return kept[drawToken(scaled, 0, count, random)]!
}
