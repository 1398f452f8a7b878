/** @file Share of a weight's divergence that is left when it is learned. */

import { learns } from '../learn/learnables.ts'
import type { Run } from '../terms/options.ts'

/**
 * Divergence of learned weights over that of weights rounded over searched ranges, by stored bits, at the preset `default`: measured on
 * calibration samples of two models (docs/choose-bits.md). It matters for the prediction; the choice hardly changes with it.
 */
const LEARNED: Readonly<Record<number, number>> = { 2: 0.4, 4: 0.6 }

/** Share that a run leaves, as a function of bits. */
export const shareLeftBy =
  (run: Run): ((bits: number) => number) =>
  bits =>
    (learns(run) ? LEARNED[bits] : undefined) ?? 1
