/** @file How each linear of a block is to be quantized. */

import type { WeightQuantizer } from '../kernels/qparams.ts'
import type { Block } from './blocks.ts'
import type { Linear } from './linears.ts'
import type { QuantScheme } from './scheme.ts'

/** A block and how each of its linears is quantized, in the order of `block.linears`. */
export interface BlockPlan {
  readonly block: Block
  readonly quantizers: ReadonlyMap<Linear, WeightQuantizer>
}

/** How each linear of a block is quantized: groups as asked, scales in the type the weight is stored in. */
export function planBlock(block: Block, { weights }: QuantScheme): BlockPlan {
  const quantizers = block.linears.map((linear): [typeof linear, WeightQuantizer] => [
    linear,
    {
      bits: weights.bits,
      group: weights.group ?? linear.inFeatures,
      symmetric: weights.symmetric,
      scaleDtype: linear.weight.tensor!.dtype === 'float16' ? 'float16' : 'float32',
    },
  ])
  return { block, quantizers: new Map(quantizers) }
}

/** A line when groups are wider than some weights: those have one scale per output. */
export function groupNotes(blocks: readonly Block[], { weights }: QuantScheme): string[] {
  const { group } = weights
  if (group === undefined) return []
  const narrow = new Set(
    blocks.flatMap(block => block.linears.map(({ inFeatures }) => inFeatures)).filter(K => K < group),
  )
  if (narrow.size === 0) return []
  return [
    `groups of ${group} are wider than inputs of ${[...narrow].join(', ')}: those weights have one scale per output`,
  ]
}
