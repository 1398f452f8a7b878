/** @file Result of the learn stage: a block as it will ship. */

import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockReport } from '../terms/report.ts'
import type { Folded } from './fold-block.ts'
import type { Learned, NamedParameter } from './learned.ts'

/** A block as it will ship: only what has to be kept until the file is written. */
export interface FinishedBlock {
  readonly plan: BlockPlan
  /** One per linear of the block, in order; undefined for those that stay float. */
  readonly packed: Folded['packed']
  /** New values of plan.changedSites, in order; none where nothing was learned. */
  readonly constants: readonly Float32Array[]
  /** Of plan.addedBiases, likewise. */
  readonly biases: readonly Float32Array[]
  /** What was learned, where that was kept. */
  readonly learned: Learned | undefined
  readonly report: BlockReport
}

/** A finished block as it lies in the work folder: its weights are ranges of a file there. */
export interface StoredBlock extends Pick<FinishedBlock, 'packed' | 'constants' | 'biases' | 'report'> {
  readonly parameters: readonly NamedParameter[]
}
