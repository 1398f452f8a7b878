/**
 * @file Parameters of a block before the first step, and those it has when it is rounded to nearest. Fixed ranges of activations are
 * observed here.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { foldBlock } from './fold-block.ts'
import type { LearningStart, SiteRanges } from './learnable.ts'
import { blockParameters } from './learnables.ts'
import type { Learned } from './learned.ts'
import type { ParameterVector } from './parameters.ts'
import { staticSites } from './ranges.ts'
import { runBlock } from './run-block.ts'
import { SiteHistograms } from './site-histograms.ts'

export interface BlockStart {
  /** All parameters, for learning. */
  readonly vector: ParameterVector
  /** Those of the block rounded to nearest; undefined where it has none. */
  readonly rounded: Learned | undefined
}

const atStart = (vector: ParameterVector): Learned | undefined =>
  vector.size === 0 ? undefined : { vector, parameters: vector.initial() }

/**
 * Parameters to start from. Sites with a fixed range are observed while the block with quantized weights and float activations runs on
 * the inputs `from` of the quantized model: once rounded to nearest, and once as learning starts, when transformations have scaled what
 * the sites read.
 */
export async function startBlock(
  plan: BlockPlan,
  start: LearningStart,
  from: ActivationStore,
  onProgress?: (done: number, total: number) => void,
): Promise<BlockStart> {
  const sites = staticSites(plan)
  if (sites.length === 0) return { vector: blockParameters(plan, start), rounded: undefined }
  const { method, weights } = start
  const observe = async (learned: Learned | undefined): Promise<SiteRanges> => {
    const { version } = await foldBlock(plan, weights, learned, method.session)
    const histograms = new SiteHistograms(sites)
    const run = { from, observers: histograms.observers }
    await runBlock(plan, { ...version, quantized: false }, run, method.session, onProgress)
    return histograms.ranges(method.range)
  }
  const plain = await observe(undefined)
  const others = atStart(blockParameters(plan, start, 'others'))
  const first = others ? await observe(others) : plain
  return {
    vector: blockParameters(plan, { ...start, siteRanges: first }),
    rounded: atStart(blockParameters(plan, { ...start, siteRanges: plain }, 'always')),
  }
}
