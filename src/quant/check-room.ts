/** @file Disk space of a run: hidden states, finished blocks, output. */

import { dirname } from 'node:path'
import { runsFor } from '../decoder/feeds.ts'
import { checkDiskSpace, type DiskNeed } from '../files/disk-space.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import { staticShape } from '../graph/shape.ts'
import { elementCount } from '../graph/tensor.ts'
import type { Analysis } from './find/analysis.ts'
import { calibrates } from './learn/learnables.ts'
import type { OutputPlan } from './output/paths.ts'
import { outputSize, quantizedSize } from './output-size.ts'
import { weightSchemeOf } from './plan/weight-rules.ts'
import { finishedBefore } from './resume.ts'
import type { ResolvedOptions } from './terms/options.ts'

/** Stores of hidden states: inputs and outputs of a block, float and quantized. */
const STORES = 4

const FLOAT32_BYTES = 4

/**
 * Bytes that the rest of a run writes. Files that an earlier run has written already are not counted again.
 * @param size bytes of the model.
 */
export function spaceNeeds(
  { blocks, seqLen, io }: Analysis,
  options: ResolvedOptions,
  work: WorkFolder,
  output: OutputPlan,
  size: number,
): DiskNeed[] {
  const { scheme, format, samples } = options
  const schemeOf = weightSchemeOf(scheme.weights, options)
  const rest = blocks.slice(finishedBefore(work, blocks.length))
  const values = runsFor(io, samples) * elementCount(staticShape(blocks[0]!.input))
  const states = calibrates(options) && rest.length > 0 ? STORES * FLOAT32_BYTES * values : 0
  const linearsOf = (some: typeof blocks) => some.flatMap(({ linears }) => linears)
  return [
    {
      what: `hidden states of ${samples} x ${seqLen} tokens`,
      folder: work.path,
      bytes: Math.max(0, states - work.scratchBytes),
    },
    {
      what: 'quantized blocks',
      folder: work.path,
      bytes: quantizedSize(linearsOf(rest), scheme, schemeOf, format).packed,
    },
    {
      what: 'the output',
      folder: dirname(output.path),
      bytes: outputSize(size, linearsOf(blocks), scheme, schemeOf, format),
    },
  ]
}

/** Refuses a run for which there is no room. @throws E_OUTPUT */
export function checkRoom(...run: Parameters<typeof spaceNeeds>): void {
  checkDiskSpace(spaceNeeds(...run))
}
