/** @file Errors of all blocks in one number. */

import type { BlockReport, ErrorSummary } from './terms/report.ts'

/** Part of the error of rounding that is left in a block; undefined where the block was not learned or has no error. */
function leftIn({ roundedLoss, learnedLoss, kept }: BlockReport): number | undefined {
  if (kept === undefined || roundedLoss === undefined || !(roundedLoss > 0)) return undefined
  return kept === 'learned' && learnedLoss !== undefined ? learnedLoss / roundedLoss : 1
}

/** The errors of learned blocks together; undefined where none was learned. */
export function errorSummary(blocks: readonly BlockReport[]): ErrorSummary | undefined {
  const left = blocks.flatMap(block => leftIn(block) ?? [])
  if (left.length === 0) return undefined
  return {
    left: left.reduce((sum, part) => sum + part, 0) / left.length,
    learned: left.length,
    rounded: blocks.filter(({ kept }) => kept === 'rounded').length,
  }
}
