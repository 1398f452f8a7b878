/** @file Presets: how many samples, tokens and epochs, and at which learning rate. */

import type { Schedule } from './options.ts'

/** How much to calibrate with (samples x tokens each, how often all of them are gone through), and how fast to learn. */
export interface Effort {
  /** Floating-point operations all blocks may take; with more to do, it is done with fewer samples. */
  readonly maxWork?: number
  readonly samples: number
  readonly seqLen: number
  readonly epochs: number
  /** Of the clipping, at the first step. */
  readonly learningRate: number
  readonly schedule: Schedule
}

// fast: a look at whether it works, seconds to minutes. default: as good as paper in a fifth of its steps, and on large models as much
// of that as a laptop does in some twenty minutes (at 250 GFLOP/s; docs/speed.md), but never fewer steps than fast.
// paper: what arXiv 2308.13137 section 4.1 trains with. Sequences are shortened to the model's positions.
// Fewer steps want larger ones that end small: docs/accuracy.md has the measurements.
export const PRESETS: Readonly<Record<string, Effort>> = {
  fast: { samples: 32, seqLen: 256, epochs: 4, learningRate: 1e-1, schedule: 'cosine' },
  default: { samples: 128, seqLen: 512, epochs: 4, learningRate: 5e-2, schedule: 'cosine', maxWork: 3e14 },
  paper: { samples: 128, seqLen: 2048, epochs: 20, learningRate: 1e-2, schedule: 'constant' },
}
