/** @file Disk space of a run: hidden states, finished blocks, output. */

import { dirname } from 'node:path'
import { runsFor } from '../decoder/feeds.ts'
import { checkDiskSpace, type DiskNeed } from '../files/disk-space.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import { byteLength } from '../graph/dtype.ts'
import { staticShape } from '../graph/shape.ts'
import { elementCount } from '../graph/tensor.ts'
import type { Analysis } from './find/analysis.ts'
import { weightCount } from './find/linears.ts'
import { isLearned } from './learn/learn-outer.ts'
import { calibrates, learns } from './learn/learnables.ts'
import type { OutputPlan } from './output/paths.ts'
import { outerGrowth, outputSize, quantizedSize } from './output-size.ts'
import type { EmbeddingPlan } from './plan/plan-embeddings.ts'
import { clipBytes } from './plan/size.ts'
import { weightSchemeOf } from './plan/weight-rules.ts'
import { finishedBefore } from './resume.ts'
import type { ResolvedOptions } from './terms/options.ts'
import { ROUNDINGS } from './terms/roundings.ts'

/** Stores of hidden states: inputs and outputs of a block, float and quantized. */
const STORES = 4

/**
 * Bytes that the rest of a run writes. Files that an earlier run has written already are not counted again.
 * @param size bytes of the model.
 */
export function spaceNeeds(
  { blocks, seqLen, io }: Analysis,
  options: ResolvedOptions,
  outer: EmbeddingPlan,
  work: Pick<WorkFolder, 'path' | 'scratchBytes' | 'has'>,
  output: OutputPlan,
  size: number,
): DiskNeed[] {
  const { scheme, format, samples } = options
  const schemeOf = weightSchemeOf(scheme.weights, options)
  const rest = blocks.slice(finishedBefore(work, blocks.length))
  const values = runsFor(io, samples) * elementCount(staticShape(blocks[0]!.input))
  const states = calibrates(options) && rest.length > 0 ? STORES * byteLength(options.hiddenStates, values) : 0
  const linearsOf = (some: typeof blocks) => some.flatMap(({ linears }) => linears)
  const learned = learns(options) ? outer.jobs.filter(job => isLearned(job, options)) : []
  const clips = learned.reduce((sum, job) => sum + clipBytes(job), 0)
  // One number for each weight, learned or solved, which lies beside its code.
  const hasOffsets = options.params === undefined && ROUNDINGS[options.rounding].codes !== 'nearest'
  const weights = weightCount(linearsOf(rest))
  const offsets = hasOffsets ? byteLength('float32', weights) : 0
  return [
    {
      what: `hidden states of ${samples} x ${seqLen} tokens`,
      folder: work.path,
      bytes: Math.max(0, states - work.scratchBytes),
    },
    ...(learned.length === 0
      ? []
      : [{ what: 'clip ratios of lm_head and embeddings', folder: work.path, bytes: clips }]),
    {
      what: 'quantized blocks',
      folder: work.path,
      bytes: quantizedSize(linearsOf(rest), scheme, schemeOf, format).packed + offsets,
    },
    {
      what: 'the output',
      folder: dirname(output.path),
      bytes: outputSize(size, linearsOf(blocks), scheme, schemeOf, format) + outerGrowth(outer, options),
    },
  ]
}

/** Refuses a run for which there is no room. @throws E_OUTPUT */
export function checkRoom(...run: Parameters<typeof spaceNeeds>): void {
  checkDiskSpace(spaceNeeds(...run))
}
