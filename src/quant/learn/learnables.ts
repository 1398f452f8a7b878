/** @file List of everything that can be learned about a block. Training, folding and parameter files all use this list. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import { affine } from './affine.ts'
import { clipping } from './clipping.ts'
import type { Weights } from './emit-block.ts'
import { equivalence } from './equivalence.ts'
import { gains } from './gains.ts'
import type { BlockConstants, Learnable, LearningStart } from './learnable.ts'
import { ParameterVector } from './parameters.ts'
import { ranges } from './ranges.ts'
import { rounding } from './rounding.ts'
import { tokenClipping } from './token-clipping.ts'

/**
 * Order of the parameters in a block's vector, and order in which the learnables are applied. The equivalence gives no gradient to the
 * weights it scales: a learnable that changes weights comes after it.
 */
export const LEARNABLES: readonly Learnable[] = [clipping, equivalence, gains, affine, ranges, tokenClipping, rounding]

const enabledIn = (method: Method): readonly Learnable[] => LEARNABLES.filter(({ enabled }) => enabled(method))

type Options = Method & { readonly params?: string | undefined }

/** True when the run needs calibration samples, to learn from or to observe. Parameters from a file need none. */
export const calibrates = (options: Options): boolean => options.params === undefined && enabledIn(options).length > 0

/** True when the run learns something. */
export const learns = (options: Options): boolean =>
  calibrates(options) && enabledIn(options).some(({ learned }) => learned?.(options) ?? true)

/** True when a block has parameters that the same block rounded to nearest has not, other than where nothing is learned of them. */
export function differsFromRounded(plan: BlockPlan, start: LearningStart): boolean {
  const all = blockParameters(plan, start).size
  const rounded = blockParameters(plan, start, 'always').size
  return all > rounded || (all > 0 && learns(start.method))
}

/** Values of the float block to measure before learning starts. */
export const observedValues = (plan: BlockPlan, method: Method): readonly Value[] => [
  ...new Set(enabledIn(method).flatMap(({ observes }) => observes?.(plan) ?? [])),
]

/** Parts of a block's parameters: see `PARTS`. */
export type ParameterPart = 'all' | 'trained' | 'always' | 'others'

const PARTS: Readonly<Record<ParameterPart, (learnable: Learnable, method: Method) => boolean>> = {
  all: () => true,
  /** Those that training starts from. */
  trained: ({ solved }, method) => !solved?.(method),
  /** Those that a block rounded to nearest has as well. */
  always: ({ always }) => always ?? false,
  /** Those of training that say nothing about activations. */
  others: ({ always, solved }, method) => !always && !solved?.(method),
}

/** Parameters of a block, of all that the run learns. */
export function blockParameters(plan: BlockPlan, start: LearningStart, part: ParameterPart = 'all'): ParameterVector {
  const chosen = enabledIn(start.method).filter(learnable => PARTS[part](learnable, start.method))
  return new ParameterVector(chosen.flatMap(({ parameters }) => parameters(plan, start)))
}

/** Constants of the block with the parameters applied; without parameters, the weights as they are. */
export function applyLearned(
  g: Builder,
  plan: BlockPlan,
  weights: Weights,
  values: ReadonlyMap<string, Value> = new Map(),
): BlockConstants {
  const original: BlockConstants = {
    weights,
    constants: new Map(),
    biases: new Map(),
    clipRatios: new Map(),
    roundingOffsets: new Map(),
    ranges: new Map(),
    siteConstants: new Map(),
  }
  return LEARNABLES.reduce((constants, { apply }) => apply(g, plan, constants, values), original)
}
