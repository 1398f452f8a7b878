/** @file Share of a weight's divergence that is left when it is learned. */

import { learns } from '../learn/learnables.ts'
import type { Run } from '../terms/options.ts'

/**
 * Divergence of learned weights over that of weights rounded over searched ranges, by stored bits: cautious figures. Two small models had
 * 0.23 to 0.37 at 2 bits and 0.16 to 0.26 at 4 (docs/choose-bits.md).
 */
const LEARNED: Readonly<Record<number, number>> = { 2: 0.4, 4: 0.6 }

/** Share that a run leaves, as a function of bits. */
export const shareLeftBy =
  (run: Run): ((bits: number) => number) =>
  bits =>
    (learns(run) ? LEARNED[bits] : undefined) ?? 1
