/**
 * @file Parameters of a block before the first step, and those it has when it is rounded to nearest. Fixed ranges of activations are
 * observed here.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { affineSites } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { chooseMatrices } from './choose-matrices.ts'
import { equivalence } from './equivalence.ts'
import { foldBlock } from './fold-block.ts'
import type { LearningStart, SiteRanges } from './learnable.ts'
import { blockParameters } from './learnables.ts'
import type { Learned } from './learned.ts'
import { ParameterVector } from './parameters.ts'
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

/** Sites that a matrix helps, behind the transformations that learning starts with. */
async function matricesOf(
  plan: BlockPlan,
  start: LearningStart,
  from: ActivationStore,
): Promise<LearningStart['matrices']> {
  const { weights, method } = start
  if (affineSites(plan).length === 0) return undefined
  const transformed = new ParameterVector(equivalence.parameters(plan, start))
  const { version } = await foldBlock(plan, weights, atStart(transformed), method.session)
  return chooseMatrices(plan, version, from, method.session)
}

/**
 * Parameters to start from. Sites with a fixed range are observed while the block with quantized weights and float activations runs on
 * the inputs `from` of the quantized model: once rounded to nearest, and once as learning starts, when transformations have scaled what
 * the sites read.
 */
export async function startBlock(
  plan: BlockPlan,
  given: LearningStart,
  from: ActivationStore,
  onProgress?: (done: number, total: number) => void,
): Promise<BlockStart> {
  const { method, weights } = given
  const start = { ...given, matrices: await matricesOf(plan, given, from) }
  const sites = staticSites(plan)
  if (sites.length === 0) return { vector: blockParameters(plan, start), rounded: undefined }
  const observe = async (learned: Learned | undefined): Promise<SiteRanges> => {
    const { version } = await foldBlock(plan, weights, learned, method.session)
    const histograms = new SiteHistograms(sites)
    await runBlock(plan, { ...version, quantized: false }, { from, histograms }, method.session, onProgress)
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
