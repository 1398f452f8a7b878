/** @file Presets: number of samples, tokens and epochs, learning rates, and the way of rounding. */

import type { Rounding } from './roundings.ts'

/** Development of the learning rate over the steps: it stays, or falls to 0. */
export type Schedule = 'constant' | 'cosine'

export const SCHEDULES: readonly Schedule[] = ['constant', 'cosine']

const MEBI = 2 ** 20

/** Amount of calibration, and speed of learning. */
export interface Preset {
  /** Limit of floating-point operations for all blocks; above it fewer samples are used. */
  readonly maxWork?: number
  readonly samples: number
  /** Tokens of a sample. */
  readonly seqLen: number
  /** Passes over all samples. */
  readonly epochs: number
  /** Learning rate of the clipping, at the first step. */
  readonly learningRate: number
  readonly schedule: Schedule
  /** Rounding of weights of few bits (LEARNED_BITS); others are rounded to nearest. */
  readonly rounding: Rounding
  /** Most weights of a block whose rounding is learned, as that takes memory. A choice by the machine's memory would give other files elsewhere. */
  readonly maxRounded?: number
  /** Learning rate of learned rounding, in steps of the grid, at the first step. */
  readonly roundingLearningRate: number
  /** Learn for the error behind the next block. */
  readonly lookahead: boolean
  /** Learn the gains of norms, with weights of few bits (LEARNED_BITS). */
  readonly gains: boolean
  /** Learn matrices where activations have few bits (LEARNED_BITS). */
  readonly matrices: boolean
}

/** Most bits for which presets learn the rounding of weights, or matrices for activations: above it there is next to nothing to win. */
export const LEARNED_BITS = 4

export type PresetName = 'fast' | 'default' | 'best' | 'paper'

// fast: a look at whether it works, seconds to minutes. default: the best for about the time that the reference's method takes. On large
// models it does as much of that as a laptop does in about twenty minutes (at 250 GFLOP/s; docs/speed.md), but never fewer steps than
// fast. best: what one runs overnight. paper: the training of arXiv 2308.13137 section 4.1, rounded to nearest as there. Sequences are
// shortened to the model's positions.
// Fewer steps want larger ones that end small: docs/accuracy.md has the measurements.
export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  fast: {
    samples: 32,
    seqLen: 256,
    epochs: 4,
    learningRate: 1e-1,
    schedule: 'cosine',
    rounding: 'weighted-learned',
    maxRounded: 64 * MEBI,
    roundingLearningRate: 8e-3,
    lookahead: false,
    gains: true,
    matrices: false,
  },
  default: {
    samples: 128,
    seqLen: 512,
    epochs: 4,
    learningRate: 5e-2,
    schedule: 'cosine',
    maxWork: 3e14,
    rounding: 'weighted-learned',
    maxRounded: 64 * MEBI,
    roundingLearningRate: 4e-3,
    lookahead: false,
    gains: true,
    matrices: false,
  },
  best: {
    samples: 128,
    seqLen: 512,
    epochs: 8,
    learningRate: 3e-2,
    schedule: 'cosine',
    rounding: 'weighted-learned',
    roundingLearningRate: 4e-3,
    lookahead: true,
    gains: true,
    matrices: true,
  },
  paper: {
    samples: 128,
    seqLen: 2048,
    epochs: 20,
    learningRate: 1e-2,
    schedule: 'constant',
    rounding: 'nearest',
    roundingLearningRate: 4e-3,
    lookahead: false,
    gains: false,
    matrices: false,
  },
}
