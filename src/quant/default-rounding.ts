/** @file Rounding of a run that does not say it, once the model is known: learned only where blocks are small enough for memory. */

import { option } from '../option-mark.ts'
import type { Block } from './find/blocks.ts'
import type { QuantizeOptions, ResolvedOptions } from './terms/options.ts'

/** Most weights of a block whose rounding is learned by default. A choice by the machine's memory would give other files elsewhere. */
const MOST_WEIGHTS = 64 * 2 ** 20

/** Memory of a run that learns the rounding with AdamW, in parts of the largest block's float32 weights (docs/large-models.md). */
const MEMORY_FACTOR = 20

/** The rounding to take, and a note where the preset's is not taken. */
export function roundingFor(
  given: Pick<QuantizeOptions, 'rounding' | 'preset'>,
  resolved: Pick<ResolvedOptions, 'rounding'>,
  blocks: readonly Pick<Block, 'linears'>[],
): { readonly rounding: ResolvedOptions['rounding']; readonly notes: readonly string[] } {
  const { rounding } = resolved
  const counts = blocks.map(({ linears }) =>
    linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0),
  )
  const most = Math.max(...counts)
  if (given.rounding !== undefined || given.preset === 'best' || rounding !== 'learned' || most <= MOST_WEIGHTS)
    return { rounding, notes: [] }
  const gigabytes = Math.ceil((MEMORY_FACTOR * 4 * most) / 1e9)
  return {
    rounding: 'nearest',
    notes: [
      `the rounding of weights is not learned, as the blocks are large: ${option('rounding', 'learned')} is more accurate and takes about ${gigabytes} GB of memory`,
    ],
  }
}
