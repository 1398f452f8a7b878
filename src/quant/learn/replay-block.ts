/** @file Quantizes a block with parameters that an earlier run learned. */

import { QuantError } from '../../errors.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { type BlockContext, progressOf } from './block-context.ts'
import { readWeights } from './block-version.ts'
import { type FinishedBlock, finishBlock } from './finished-block.ts'
import { foldBlock } from './fold-block.ts'
import type { Learned } from './learned.ts'

export interface ReplayContext extends BlockContext {
  readonly learned: Learned
}

/**
 * Quantizes a block with `context.learned`.
 * @throws E_PARAMETERS when that gives numbers which are NaN or infinite: the parameters belong to another model.
 */
export async function replayBlock(plan: BlockPlan, context: ReplayContext): Promise<FinishedBlock> {
  const started = performance.now()
  progressOf(context, plan, 'rounding')(0, 1)
  const { method, learned } = context
  const folded = await foldBlock(plan, readWeights(plan.block), learned, method.session)
  if (folded.unsound !== undefined)
    throw new QuantError(
      'E_PARAMETERS',
      `the learned parameters of block ${plan.block.index} do not fit its weights: ${folded.unsound}`,
      'Give the file and the model it was saved with, or learn again without --params.',
    )
  return finishBlock(plan, folded, learned, {}, started)
}
