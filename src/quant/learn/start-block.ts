/**
 * @file Parameters of a block before the first step, and those it has when it is rounded to nearest. Fixed ranges of activations and
 * the inputs that weigh the errors of weights are observed here, after the sites with a matrix are chosen.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { ClipRatios } from '../../kernels/qparams.ts'
import { withPrograms } from '../../kernels/programs.ts'
import type { Linear } from '../find/linears.ts'
import { affineSites } from '../plan/affine-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { ROUNDINGS } from '../terms/roundings.ts'
import { chooseMatrices } from './choose-matrices.ts'
import { searchClip, type Weights } from './clip-search.ts'
import { equivalence } from './equivalence.ts'
import { foldBlock } from './fold-block.ts'
import { inputMoments, groupsOfReaders } from './input-moments.ts'
import type { LearningStart, SiteRanges } from './learnable.ts'
import { blockParameters } from './learnables.ts'
import type { Learned } from './learned.ts'
import { ParameterVector } from './parameters.ts'
import { staticSites } from './ranges.ts'
import { runBlock } from './run-block.ts'
import { SiteHistograms } from './site-histograms.ts'
import { unroundedBlock } from './unrounded-block.ts'

export interface BlockStart {
  /** The start with everything that was observed. */
  readonly start: LearningStart
  /** Parameters for training. */
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
  onProgress?: (done: number, total: number) => void,
): Promise<LearningStart['matrices']> {
  const { weights, method } = start
  if (affineSites(plan).length === 0) return undefined
  const transformed = new ParameterVector(equivalence.parameters(plan, start))
  const { version } = await foldBlock(plan, weights, atStart(transformed), method.session)
  return chooseMatrices(plan, version, from, method.session, onProgress)
}

/**
 * Clip ratios of every linear that learns, under which the squared error of its weights is least, weighted by the mean square of what
 * each input channel sees: in the float block, transformed as learning starts, on the inputs `from` of the quantized model.
 */
async function weightedClips(
  plan: BlockPlan,
  start: LearningStart,
  from: ActivationStore,
  onProgress?: (done: number, total: number) => void,
): Promise<Map<Linear, ClipRatios>> {
  const { method, weights, frozen } = start
  const { session } = method
  const linears = [...plan.quantizers.keys()].filter(linear => !frozen.has(linear))
  const { version, weightOf } = await unroundedBlock(
    plan,
    weights,
    atStart(blockParameters(plan, start, 'others')),
    session,
  )
  const readers = groupsOfReaders(plan, linears)
  const run = { from, of: 'squares' } as const
  const squares = await inputMoments(plan, { ...version, quantized: false }, readers, run, session, onProgress)
  const clips = new Map<Linear, ClipRatios>()
  await withPrograms(session, async programs => {
    for (const [i, group] of readers.entries())
      for (const linear of group) {
        const { name, inFeatures, outFeatures } = linear
        const { w } = await weightOf(linear)
        const stored = { name, tensor: tensorOf('float32', [inFeatures, outFeatures], w), transposed: false }
        const weighing: Weights = { by: 'channels', numbers: squares[i]! }
        const search = { session, programs }
        clips.set(linear, (await searchClip(stored, plan.quantizers.get(linear)!, weighing, search)).clip)
        method.signal?.throwIfAborted()
      }
  })
  return clips
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
  const transformed = { ...given, matrices: await matricesOf(plan, given, from, onProgress) }
  const clips =
    ROUNDINGS[method.rounding].ranges === 'weighted'
      ? await weightedClips(plan, transformed, from, onProgress)
      : undefined
  const start = { ...transformed, clips }
  const sites = staticSites(plan)
  if (sites.length === 0) return { start, vector: blockParameters(plan, start, 'trained'), rounded: undefined }
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
  const ranged = { ...start, siteRanges: first }
  return {
    start: ranged,
    vector: blockParameters(plan, ranged, 'trained'),
    rounded: atStart(blockParameters(plan, { ...start, siteRanges: plain }, 'always')),
  }
}
