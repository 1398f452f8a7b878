/** @file Rounding of a run, once the model is known: a preset learns it only where blocks are small enough for memory. */

import { option } from '../option-mark.ts'
import type { Block } from './find/blocks.ts'
import { weightCount } from './find/linears.ts'
import type { ResolvedOptions } from './terms/options.ts'

/** Memory of a run that learns the rounding with AdamW, in parts of the largest block's float32 weights (docs/large-models.md). */
const MEMORY_FACTOR = 20

/** The rounding to take, and a note where the preset's is not taken. */
export function roundingFor(
  { rounding, maxRounded = Infinity }: Pick<ResolvedOptions, 'rounding' | 'maxRounded'>,
  blocks: readonly Pick<Block, 'linears'>[],
): { readonly rounding: ResolvedOptions['rounding']; readonly notes: readonly string[] } {
  const most = Math.max(...blocks.map(({ linears }) => weightCount(linears)))
  if (rounding === 'nearest' || most <= maxRounded) return { rounding, notes: [] }
  const gigabytes = Math.ceil((MEMORY_FACTOR * 4 * most) / 1e9)
  return {
    rounding: 'nearest',
    notes: [
      `the rounding of weights is not learned, as the blocks are large: ${option('rounding', rounding)} is more accurate and takes about ${gigabytes} GB of memory`,
    ],
  }
}
