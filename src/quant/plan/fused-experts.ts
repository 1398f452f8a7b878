/**
 * @file Experts inside one node of the user's graph (com.microsoft MoE): the limits within which they become a QMoE node
 * (onnxruntime 1.30). Knows the op's limits, not its layout.
 */

import type { Node } from '../../graph/ir.ts'
import { isRefused, type Refused } from '../../graph/refusal.ts'
import { containerBits } from '../../kernels/pack/matmul-nbits.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Linear } from '../find/linears.ts'

const MIN_BLOCK = 16

const MAX_BLOCK = 256

/** True for a linear that is one of many in a node of the user's graph. */
export const isFused = ({ origin }: Linear): boolean => origin.kind === 'com.microsoft.MoE'

/**
 * The block_size of a QMoE node: the largest power of two that divides every group and gives every weight at least two blocks and
 * whole bytes of zero points. onnxruntime 1.30 reads a node with a single block as if it had none. With 2 bits it rounds its factors
 * (1e-3 of the result) unless blocks are the smallest. undefined: no size fits.
 */
function commonBlockSize(linears: readonly (readonly [Linear, WeightQuantizer])[]): number | undefined {
  const fits = (block: number) =>
    linears.every(([{ inFeatures: K }, { bits, group, symmetric }]) => {
      const perByte = symmetric ? 1 : 8 / containerBits(bits)
      if (containerBits(bits) === 2 && block > MIN_BLOCK) return false
      return (group >= K || group % block === 0) && K >= 2 * block && K % (block * perByte) === 0
    })
  for (let block = MAX_BLOCK; block >= MIN_BLOCK; block /= 2) if (fits(block)) return block
  return undefined
}

export interface FusedPlan {
  /** block_size of the node each linear is in. */
  readonly blockSizes: ReadonlyMap<Linear, number>
  /** Linears that have to stay float after all, because QMoE cannot hold their node. */
  readonly float: ReadonlySet<Linear>
  readonly notes: readonly string[]
}

/** block_size of the QMoE node that `node` becomes; refused where it cannot hold `quantized`, the members that are to be quantized. */
function blockSizeOf(
  node: Node,
  members: readonly Linear[],
  quantized: readonly (readonly [Linear, WeightQuantizer])[],
): number | Refused<Node> {
  const refused = (reason: string): Refused<Node> => ({ at: node, reason })
  const differ = (of: (quantizer: WeightQuantizer) => unknown) =>
    new Set(quantized.map(([, quantizer]) => of(quantizer))).size > 1
  if (quantized.length < members.length) return refused('some of its weights are to stay float')
  if (differ(({ bits }) => containerBits(bits)) || differ(({ symmetric }) => symmetric))
    return refused('its weights are to have different schemes')
  return commonBlockSize(quantized) ?? refused('no block size fits its weights')
}

/** Plans the fused nodes of a block: each is quantized as a whole or not at all. */
export function planFused(linears: readonly Linear[], quantizers: ReadonlyMap<Linear, WeightQuantizer>): FusedPlan {
  const blockSizes = new Map<Linear, number>()
  const float = new Set<Linear>()
  const notes: string[] = []
  const nodes = new Map<Node, Linear[]>()
  for (const linear of linears.filter(isFused)) nodes.set(linear.origin, [...(nodes.get(linear.origin) ?? []), linear])
  for (const [node, members] of nodes) {
    const quantized = members.flatMap(linear => {
      const quantizer = quantizers.get(linear)
      return quantizer ? [[linear, quantizer] as const] : []
    })
    if (quantized.length === 0) continue
    const blockSize = blockSizeOf(node, members, quantized)
    if (isRefused(blockSize)) {
      for (const linear of members) float.add(linear)
      notes.push(`${node.name}: experts stay float, because a QMoE node cannot hold them: ${blockSize.reason}`)
    } else for (const [linear] of quantized) blockSizes.set(linear, blockSize)
  }
  return { blockSizes, float, notes }
}
