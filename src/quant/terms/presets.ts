/** @file Presets: number of samples, tokens and epochs, and the learning rate. */

/** Development of the learning rate over the steps: it stays, or falls to 0. */
export type Schedule = 'constant' | 'cosine'

export const SCHEDULES: readonly Schedule[] = ['constant', 'cosine']

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
}

export type PresetName = 'fast' | 'default' | 'paper'

// fast: a look at whether it works, seconds to minutes. default: as good as paper in a fifth of its steps. On large models it does as
// much of that as a laptop does in about twenty minutes (at 250 GFLOP/s; docs/speed.md), but never fewer steps than fast.
// paper: the training of arXiv 2308.13137 section 4.1. Sequences are shortened to the model's positions.
// Fewer steps want larger ones that end small: docs/accuracy.md has the measurements.
export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  fast: { samples: 32, seqLen: 256, epochs: 4, learningRate: 1e-1, schedule: 'cosine' },
  default: { samples: 128, seqLen: 512, epochs: 4, learningRate: 5e-2, schedule: 'cosine', maxWork: 3e14 },
  paper: { samples: 128, seqLen: 2048, epochs: 20, learningRate: 1e-2, schedule: 'constant' },
}
