/** @file How much is learned: as asked, or less where that would take too long. Deterministic, but for what a time budget measures. */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import type { Schedule } from '../terms/options.ts'

/** How many samples, how often each, and how fast to learn from them. */
export interface Effort {
  readonly samples: number
  readonly epochs: number
  /** Of the clipping, at the first step. */
  readonly learningRate: number
  readonly schedule: Schedule
}

/** More than these go first. */
const ENOUGH_EPOCHS = 4

/** Below so many samples further epochs are given up instead: a clipping learned from fewer does not hold on other text. */
const FEW_SAMPLES = 16

/** Less than this is no learning. */
const LEAST_SAMPLES = 8

/**
 * `effort` in at most `steps` steps: four epochs, then fewer samples, then fewer epochs. With a schedule that falls to 0, fewer steps are larger ones,
 * by the root of how many fewer: so did the rates that were best at 128, 512 and 2560 steps behave (docs/accuracy.md).
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

/** A step never gets less than `fast` has, however large the model. */
const STEPS_OF_FAST = 128

/**
 * Steps of a block for which learning all blocks takes `work` floating-point operations, 128 at least: forward, and backward to
 * weights and inputs, are three products of two operations for every weight and token.
 * @param weights in the linears of all blocks.
 */
export function stepsForWork(work: number, weights: number, seqLen: number): number {
  return Math.max(STEPS_OF_FAST, Math.floor(work / (6 * weights * seqLen)))
}

/** What one block takes, in milliseconds. */
export interface BlockTimes {
  /** Whatever the samples: reading, compiling, rounding, packing. */
  readonly fixed: number
  /** Running the block on a sample, whose inputs and outputs are on disk, once. */
  readonly forward: number
  /** A step of learning. */
  readonly step: number
}

/** A sample is run through the float block, the rounded and the learned one, and perhaps the rounded one again. */
const FORWARDS = 4

export const blockMs = ({ fixed, forward, step }: BlockTimes, samples: number, epochs: number): number =>
  fixed + FORWARDS * forward * samples + step * samples * epochs

/** Part of a budget that is planned with: the rest is for what was not measured, and for machines that get slower. */
const PLANNED = 0.85

/**
 * The most of `effort` that all blocks can have within `budgetMs`.
 * @throws E_LIMIT when the least there is takes longer.
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
