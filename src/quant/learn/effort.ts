/** @file Effort of learning: samples and epochs as asked, or fewer where they would take too long. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import type { Schedule } from '../terms/options.ts'

/** Number of samples, of passes over them, and the learning rate. */
export interface Effort {
  readonly samples: number
  readonly epochs: number
  /** Rate of the clipping at the first step. */
  readonly learningRate: number
  readonly schedule: Schedule
}

/** Epochs to drop to before dropping samples. */
const ENOUGH_EPOCHS = 4

/** Samples to drop to before dropping more epochs: clipping learned from fewer is worse on other text. */
const FEW_SAMPLES = 16

/** Fewest samples worth training on. */
const LEAST_SAMPLES = 8

/**
 * `effort` in at most `steps` steps. First epochs are dropped down to four, then samples, then more epochs. With a schedule that falls
 * to 0, the learning rate grows with the root of the ratio of steps, as the best rates at 128, 512 and 2560 steps do (docs/accuracy.md).
 */
export function withinSteps(effort: Effort, steps: number): Effort {
  const { samples, epochs, learningRate, schedule } = effort
  if (samples * epochs <= steps) return effort
  const some = Math.min(epochs, Math.max(ENOUGH_EPOCHS, Math.floor(steps / samples)))
  const enough = Math.min(samples, Math.max(FEW_SAMPLES, Math.floor(steps / some)))
  const rounds = Math.max(1, Math.min(some, Math.floor(steps / enough)))
  const fewer = Math.min(enough, Math.max(LEAST_SAMPLES, Math.floor(steps / rounds)))
  const factor = schedule === 'cosine' ? Math.sqrt((samples * epochs) / (fewer * rounds)) : 1
  return { samples: fewer, epochs: rounds, learningRate: Number((learningRate * factor).toPrecision(3)), schedule }
}

/** Least number of steps, that of the preset `fast`. */
const STEPS_OF_FAST = 128

/**
 * Steps of a block so that learning all blocks takes `work` floating-point operations; at least 128. A step has three products (forward,
 * and backward to weights and to inputs) of two operations for every weight and token.
 * @param weights number of them in the linears of all blocks.
 */
export function stepsForWork(work: number, weights: number, seqLen: number): number {
  return Math.max(STEPS_OF_FAST, Math.floor(work / (6 * weights * seqLen)))
}

/** Milliseconds that learning one block takes. */
export interface BlockTimes {
  /** For any number of samples: reading, compiling, rounding, packing. */
  readonly fixed: number
  /** For each sample: all runs of the block but those of training. */
  readonly sample: number
  /** For each step of learning. */
  readonly step: number
}

export const blockMs = ({ fixed, sample, step }: BlockTimes, samples: number, epochs: number): number =>
  fixed + sample * samples + step * samples * epochs

/** Planned part of a time budget. The rest is for work that was not measured, and for machines that get slower. */
const PLANNED = 0.85

/**
 * Largest part of `effort` that all blocks can have within `budgetMs`.
 * @throws E_LIMIT when the least learning takes longer.
 */
export function withinTime(effort: Effort, times: BlockTimes, blocks: number, budgetMs: number): Effort {
  const planned = (budgetMs * PLANNED) / blocks
  const fits = ({ samples, epochs }: Effort) => blockMs(times, samples, epochs) <= planned
  if (fits(effort)) return effort
  let [low, high] = [0, effort.samples * effort.epochs]
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (fits(withinSteps(effort, middle))) low = middle
    else high = middle
  }
  const fitted = withinSteps(effort, low)
  if (low > 0 && fits(fitted)) return fitted
  const leastMs = (blocks * blockMs(times, Math.min(LEAST_SAMPLES, effort.samples), 1)) / PLANNED
  throw new QuantError(
    'E_LIMIT',
    `a time budget of ${minutes(budgetMs)} is too short: learning from ${LEAST_SAMPLES} samples takes about ${minutes(leastMs)} here`,
    `Give more time, a shorter ${option('seqLen')}, or round to nearest with ${option('lwc', false)} ${option('let', false)}.`,
  )
}

const minutes = (ms: number): string => (ms < 60_000 ? `${Math.ceil(ms / 1000)} s` : `${Math.ceil(ms / 60_000)} min`)
