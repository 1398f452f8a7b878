/** @file Runs a block over all samples: outputs, loss, observations. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount, readElements, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import type { SessionOptions } from '../../kernels/session.ts'
import { compileShared } from '../../kernels/shared-session.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { type BlockVersion, sessionFor } from './block-version.ts'
import { forwardProgram } from './forward-program.ts'
import { Observations, type Observer } from './observer.ts'
import { RunLength } from './run-length.ts'

/** Inputs of a run over all samples, and the results that are wanted of it. */
export interface BlockRun {
  readonly from: ActivationStore
  /** Samples to run, the first of `from`. Default: all. */
  readonly samples?: number | undefined
  /** Store for the outputs; may be `from`. */
  readonly to?: ActivationStore | undefined
  /** Outputs to compare with. */
  readonly target?: ActivationStore
  /** Observers of the activations. */
  readonly observers?: readonly Observer[]
  /** Called with the outputs of every sample; throws when they cannot be used. */
  readonly check?: ((y: Float32Array, sample: number) => void) | undefined
}

/** Runs the block over the samples. @returns the mean squared error against `target`, if there is one. */
export async function runBlock(
  plan: BlockPlan,
  { feeds, ...version }: BlockVersion,
  { from, samples = from.samples, to, target, observers = [], check }: BlockRun,
  session: SessionOptions,
  onProgress?: (done: number, total: number) => void,
): Promise<number> {
  const outputs = to !== undefined || check !== undefined
  // Nothing is asked for, as of a block whose linears all stay float.
  if (!outputs && target === undefined && observers.length === 0) return 0
  const program = forwardProgram(plan, {
    ...version,
    ...{ outputs, losses: target !== undefined, stateType: from.dtype, observers },
  })
  const observations = new Observations(observers)
  const observed = observers.reduce((sum, { over, shape }) => sum + (over === 'each' ? 4 * elementCount(shape) : 0), 0)
  const stores = 1 + Number(outputs) + Number(target !== undefined)
  const lengths = new RunLength(session.device, stores * from.sampleBytes + observed, session.devices?.length)
  const forward = await compileShared(program, sessionFor(session, feeds), feeds, observations.combinations)
  const length = elementCount(staticShape(plan.block.input))
  let error = 0
  try {
    for (let done = 0; done < samples;) {
      const started = performance.now()
      const count = lengths.next(samples - done)
      const result = await forward.run({
        samples: tensorOf('int64', [], BigInt64Array.of(BigInt(count))),
        x: from.tensor(done, count),
        ...(target && { target: target.tensor(done, count) }),
        ...observations.feeds,
      })
      if (check) {
        const y = readFloats(result.y!)
        for (let i = 0; i < count; i++) check(y.subarray(i * length, (i + 1) * length), done + i)
      }
      if (target) for (const loss of readElements(result.losses!) as Float32Array) error += loss
      to?.writeTensor(done, result.y!)
      observations.add(result)
      lengths.took(count, performance.now() - started)
      done += count
      onProgress?.(done, samples)
    }
  } finally {
    await forward.release()
  }
  observations.end()
  return error / samples
}
