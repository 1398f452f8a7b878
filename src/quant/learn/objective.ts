/** @file Objective of learning a block: the error of its own output, or of something that is computed from it. */

import { klDivergence, type Loss, meanSquaredError } from '../../autodiff/loss.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { Tensors } from '../../kernels/session.ts'
import type { Block } from '../find/blocks.ts'
import { readWeights } from './block-version.ts'
import { emitBlock } from './emit-block.ts'
import { weightInputs } from './ports.ts'

/** Nodes behind a block, as the float model has them, and the error that is measured there. */
export interface Objective {
  readonly behind: Block
  readonly error: 'squared' | 'divergence'
}

const ERRORS: Readonly<Record<Objective['error'], typeof meanSquaredError>> = {
  squared: meanSquaredError,
  divergence: klDivergence,
}

const PREFIX = 'behind_'

/** Weights of the nodes behind the block, as run inputs. */
export const objectiveWeights = (objective: Objective | undefined): Tensors =>
  objective ? readWeights(objective.behind, PREFIX) : {}

/**
 * Loss of a block's output against the float block's. Without an objective it is their mean squared error.
 * @param outer program around the loop that `g` is the body of, which gets the weights as inputs.
 */
export function emitLoss(
  g: Builder,
  objective: Objective | undefined,
  output: Value,
  target: Value,
  outer: Builder,
): Loss & { readonly at: Value } {
  if (!objective) return { ...meanSquaredError(g, output, target), at: output }
  const { behind, error } = objective
  const weights = weightInputs(outer, behind, PREFIX)
  const at = emitBlock(g, behind, output, weights)
  return { ...ERRORS[error](g, at, emitBlock(g, behind, target, weights)), at }
}
