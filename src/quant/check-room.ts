/** @file Disk space of a run: hidden states, finished blocks, output. */

import { dirname } from 'node:path'
import { runsFor } from '../decoder/feeds.ts'
import { checkDiskSpace } from '../files/disk-space.ts'
import type { WorkFolder } from '../files/work-folder.ts'
import { staticShape } from '../graph/shape.ts'
import { elementCount, sizeBytes } from '../graph/tensor.ts'
import type { Analysis } from './find/analysis.ts'
import { learns } from './learn/learnables.ts'
import type { OutputPlan } from './output/paths.ts'
import { packedBytes } from './plan/size.ts'
import { weightSchemeOf } from './plan/weight-rules.ts'
import { finishedBefore } from './resume.ts'
import type { QuantizeOptions } from './terms/options.ts'

/** Bytes of the blocks' weights, quantized. */
function quantizedBytes({ blocks }: Analysis, options: QuantizeOptions): number {
  const { scheme } = options
  const schemeOf = weightSchemeOf(scheme.weights, options)
  const bytes = blocks.flatMap(({ linears }) =>
    linears.map(linear => {
      const weights = schemeOf(linear)
      return weights ? packedBytes(linear, { ...scheme, weights }) : 0
    }),
  )
  return bytes.reduce((sum, size) => sum + size, 0)
}

/** Refuses a run for which there is no room, counting what an earlier one has written already. */
export function checkRoom(
  analysis: Analysis,
  options: QuantizeOptions,
  work: WorkFolder,
  output: OutputPlan,
  size: number,
): void {
  const { blocks, seqLen, io } = analysis
  const states = learns(options)
    ? 4 * 4 * runsFor(io, options.samples) * elementCount(staticShape(blocks[0]!.input))
    : 0
  const left = 1 - finishedBefore(work, blocks.length) / blocks.length
  const quantized = quantizedBytes(analysis, options)
  const weights = blocks.flatMap(({ linears }) => linears.map(({ weight }) => sizeBytes(weight.tensor!)))
  const floatWeights = weights.reduce((sum, bytes) => sum + bytes, 0)
  checkDiskSpace([
    {
      what: `hidden states of ${options.samples} x ${seqLen} tokens`,
      folder: work.path,
      bytes: Math.max(0, states - work.scratchBytes),
    },
    { what: 'quantized blocks', folder: work.path, bytes: quantized * left },
    { what: 'the output', folder: dirname(output.path), bytes: size - floatWeights + quantized },
  ])
}
