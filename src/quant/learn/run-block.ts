/** @file Runs a block over all samples: outputs, loss, observations. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { staticShape } from '../../graph/shape.ts'
import { readElements, tensorOf } from '../../graph/tensor.ts'
import { compile, type SessionOptions } from '../../kernels/session.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockVersion } from './block-version.ts'
import type { ChannelRanges } from './channel-ranges.ts'
import { forwardProgram } from './forward-program.ts'
import type { TokenCounts } from './token-counts.ts'

export interface BlockStreams {
  readonly from: ActivationStore
  /** Where the outputs go, if they are wanted; may be `from`. */
  readonly to?: ActivationStore
  /** What the outputs should be, if that is to be measured. */
  readonly target?: ActivationStore
  /** What is to be found out about activations inside. */
  readonly ranges?: ChannelRanges | undefined
  /** Whose tokens are to be counted. */
  readonly counts?: TokenCounts | undefined
  /** Looks at the outputs of every sample, and throws when it does not like them. */
  readonly check?: ((y: Float32Array, sample: number) => void) | undefined
}

/** Runs the block over every sample. @returns the mean squared error against `target`, if there is one. */
export async function runBlock(
  plan: BlockPlan,
  { feeds, ...version }: BlockVersion,
  { from, to, target, ranges, counts, check }: BlockStreams,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<number> {
  const shape = staticShape(plan.block.input)
  const observed = ranges?.values ?? []
  const forward = await compile(forwardProgram(plan, { ...version, observed, counted: counts?.experts }), session)
  let error = 0
  try {
    for (let i = 0; i < from.samples; i++) {
      const outputs = await forward.run({ x: tensorOf('float32', shape, from.read(i, 1)), ...feeds })
      const y = readElements(outputs.y!) as Float32Array
      check?.(y, i)
      if (target) error += meanSquaredError(y, target.read(i, 1))
      to?.write(i, y)
      ranges?.add(outputs)
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
