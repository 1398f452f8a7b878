/** @file Rounds a block to nearest, some MB of its weights at a time, without running it. */

import { packStored } from '../../kernels/pack/layouts.ts'
import { type BlockPlan, layoutOf } from '../plan/block-plan.ts'
import { type BlockContext, progressOf } from './block-context.ts'
import { type FinishedBlock, finishBlock, type FinishedLinear } from './finished-block.ts'

/**
 * The block's weights rounded to nearest: the same numbers as those of `foldBlock` without parameters.
 * @throws E_UNSUPPORTED when a number in a weight is NaN or infinite.
 */
export function roundLinears(plan: BlockPlan): FinishedLinear[] {
  return plan.block.linears.map((linear): FinishedLinear => {
    const quantizer = plan.quantizers.get(linear)
    if (!quantizer) return { linear, packed: undefined }
    const { name, weight, transposed } = linear
    const stored = { name, tensor: weight.tensor!, transposed }
    const how = { ...quantizer, blockSize: plan.blockSizes.get(linear) }
    return { linear, packed: packStored(layoutOf(plan, linear, quantizer), stored, how) }
  })
}

/** Rounds a block to nearest. @throws E_UNSUPPORTED as `roundLinears` does; the reason of an abort. */
export function roundBlock(plan: BlockPlan, context: BlockContext): FinishedBlock {
  const started = performance.now()
  progressOf(context, plan, 'rounding')(0, 1)
  return finishBlock(plan, { linears: roundLinears(plan), constants: [], activations: [] }, undefined, {}, started)
}
