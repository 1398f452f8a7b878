/** @file Objective of learning a block: the error of its own output, or of what the float model computes from it. */

import { klDivergence, type Loss, meanSquaredError } from '../../autodiff/loss.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { Tensors } from '../../kernels/session.ts'
import type { Analysis } from '../find/analysis.ts'
import type { Block } from '../find/blocks.ts'
import { weightCount } from '../find/linears.ts'
import { findTail } from '../find/tail.ts'
import type { Method } from '../terms/options.ts'
import { readWeights } from './block-version.ts'
import { emitBlock } from './emit-block.ts'
import { weightInputs } from './ports.ts'

/** Nodes behind a block, as the float model has them, and the error that is measured there. */
export interface Objective {
  readonly behind: Block
  readonly error: 'squared' | 'divergence'
}

/** Most weights behind the last block, in parts of the block's own: its programs keep lm_head and several logits of a sample in memory. */
const MOST_BEHIND = 2

/**
 * Objective of block `index` when a run looks ahead: the squared error behind the next block, and for the last block the divergence of
 * the logits. Undefined without looking ahead, and for the last block where lm_head is too large.
 */
export function objectiveFor(
  { lookahead }: Pick<Method, 'lookahead'>,
  { working, blocks }: Pick<Analysis, 'working' | 'blocks'>,
  index: number,
): Objective | undefined {
  if (!lookahead) return undefined
  const next = blocks[index + 1]
  if (next) return { behind: next, error: 'squared' }
  const tail = findTail(working, blocks)
  if (weightCount(tail.linears) > MOST_BEHIND * weightCount(blocks[index]!.linears)) return undefined
  return { behind: tail, error: 'divergence' }
}

const ERRORS: Readonly<Record<Objective['error'], typeof meanSquaredError>> = {
  squared: meanSquaredError,
  divergence: klDivergence,
}

const PREFIX = 'behind_'

/** Note for a run that looks ahead from all blocks but the last. */
export const lookaheadNotes = (
  method: Pick<Method, 'lookahead'>,
  analysis: Pick<Analysis, 'working' | 'blocks'>,
): readonly string[] =>
  method.lookahead && !objectiveFor(method, analysis, analysis.blocks.length - 1)
    ? [`the last block is learned for its own output: lm_head has more than ${MOST_BEHIND} times its weights`]
    : []

/** Weights of the nodes behind the block, as constants of the program. */
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
