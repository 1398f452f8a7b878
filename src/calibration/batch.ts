/** @file How many sequences of equal length to run at once. Knows neither what is run nor on what. */

import { QuantError } from '../errors.ts'

/** What one run may bring back to JavaScript at once; larger batches gain nothing. */
const MAX_RUN_BYTES = 256 * 2 ** 20

/** How many sequences to run at once when each brings back `bytesPerSequence`; one where that alone is much. */
export function batchFor(bytesPerSequence: number, sequences: number): number {
  return Math.max(1, Math.min(sequences, 32, Math.floor(MAX_RUN_BYTES / bytesPerSequence)))
}

/**
 * Works with a batch that is known to suit, or else with `guess`; a model that cannot run that many sequences (some
 * exporters leave the batch of the rotary tables at 1) is tried once more with single ones.
 * @throws what `work` throws with a batch that was asked for, or of one.
 */
export async function withBatch<T>(
  wanted: number | undefined,
  guess: number,
  work: (batch: number) => Promise<T>,
): Promise<T> {
  if (wanted !== undefined || guess === 1) return work(wanted ?? 1)
  try {
    return await work(guess)
  } catch (error) {
    if (!(error instanceof QuantError) || error.code !== 'E_RUNTIME') throw error
    return work(1)
  }
}
