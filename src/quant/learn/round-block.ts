/** @file Rounds the weights of a block to nearest, some MB at a time, without running it. */

import { packPlanes } from '../../kernels/pack/planes.ts'
import { packRounded, roundStored } from '../../kernels/pack/rounded.ts'
import { type BlockPlan, isInPlanes } from '../plan/block-plan.ts'
import type { Folded } from './fold-block.ts'

/**
 * The block's weights rounded to nearest: the numbers of `foldBlock` without parameters, for blocks that are not run. Weights are read
 * from the model's files, some MB at a time.
 * @throws E_UNSUPPORTED when a weight is no sound number.
 */
export function roundBlock(plan: BlockPlan): Folded['packed'] {
  return plan.block.linears.map(linear => {
    const quantizer = plan.quantizers.get(linear)
    if (!quantizer) return undefined
    const { name, weight, transposed, inFeatures: K, outFeatures: N } = linear
    const stored = { name, tensor: weight.tensor!, transposed }
    return isInPlanes(plan, linear, quantizer)
      ? packPlanes({ ...roundStored(stored, quantizer), ...quantizer, K, N })
      : packRounded(stored, { ...quantizer, blockSize: plan.blockSizes.get(linear) })
  })
}
