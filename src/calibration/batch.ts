/** @file Number of sequences of equal length in one run. Knows no model and no data. */

import { QuantError } from '../errors.ts'

/** Most bytes of outputs that one run copies to JavaScript; larger batches gain nothing. */
const MAX_RUN_BYTES = 256 * 2 ** 20

/** Sequences for one run when each has outputs of `bytesPerSequence`; at least one, at most `most`. */
export function batchFor(bytesPerSequence: number, sequences: number, most: number = 32): number {
  return Math.max(1, Math.min(sequences, most, Math.floor(MAX_RUN_BYTES / bytesPerSequence)))
}

/**
 * Works with the `wanted` batch, or else with `guess`. If the model cannot run `guess` sequences at once, it is tried again with
 * one: some exporters fix the batch of the rotary tables at 1.
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
