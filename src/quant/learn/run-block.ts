/** @file Runs a block over all samples: outputs, loss, observations. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { staticShape } from '../../graph/shape.ts'
import { readElements, tensorOf } from '../../graph/tensor.ts'
import { compile, type SessionOptions } from '../../kernels/session.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockVersion } from './block-version.ts'
import type { ChannelRanges } from './channel-ranges.ts'
import { forwardProgram } from './forward-program.ts'
import type { SiteHistograms } from './site-histograms.ts'
import type { TokenCounts } from './token-counts.ts'

/** Inputs of a run over all samples, and the results that are wanted of it. */
export interface BlockRun {
  readonly from: ActivationStore
  /** Store for the outputs; may be `from`. */
  readonly to?: ActivationStore | undefined
  /** Outputs to compare with. */
  readonly target?: ActivationStore
  /** Channel ranges to extend. */
  readonly ranges?: ChannelRanges | undefined
  /** Histograms of activations to add to. */
  readonly histograms?: SiteHistograms | undefined
  /** Counts of tokens to add to. */
  readonly counts?: TokenCounts | undefined
  /** Called with the outputs of every sample; throws when they cannot be used. */
  readonly check?: ((y: Float32Array, sample: number) => void) | undefined
}

/** Runs the block over every sample. @returns the mean squared error against `target`, if there is one. */
export async function runBlock(
  plan: BlockPlan,
  { feeds, ...version }: BlockVersion,
  { from, to, target, ranges, histograms, counts, check }: BlockRun,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<number> {
  const shape = staticShape(plan.block.input)
  const observed = ranges?.values ?? []
  const program = forwardProgram(plan, {
    ...version,
    observed,
    collected: histograms?.values,
    counted: counts?.experts,
  })
  const forward = await compile(program, session)
  let error = 0
  try {
    for (let i = 0; i < from.samples; i++) {
      const outputs = await forward.run({ x: tensorOf('float32', shape, from.read(i, 1)), ...feeds })
      const y = readElements(outputs.y!) as Float32Array
      check?.(y, i)
      if (target) error += meanSquaredError(y, target.read(i, 1))
      to?.write(i, y)
      ranges?.add(outputs)
      histograms?.add(outputs)
      counts?.add(outputs)
      onProgress?.(i + 1, from.samples)
    }
  } finally {
    await forward.release()
  }
  return error / from.samples
}

function meanSquaredError(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return sum / a.length
}
