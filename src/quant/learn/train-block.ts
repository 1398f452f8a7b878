/** @file Trains a block in short runs of its training program, with progress and checkpoints between them. Never ends in NaN. */

import { type OptimizerName, optimizerOf } from '../../autodiff/optimizers.ts'
import type { ActivationStore } from '../../calibration/activation-store.ts'
import { readElements, tensorOf } from '../../graph/tensor.ts'
import { compile, type SessionOptions, type Tensors } from '../../kernels/session.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Schedule } from '../terms/options.ts'
import { sessionFor } from './block-version.ts'
import type { ParameterVector } from './parameters.ts'
import { RunLength } from './run-length.ts'
import { trainingProgram } from './training-program.ts'

export interface TrainSettings {
  /** 0: the parameters keep their initial values. */
  readonly epochs: number
  readonly samples: number
  /** Course of the learning rate over the steps: constant, or falling to 0 along a half cosine. */
  readonly schedule: Schedule
  readonly optimizer: OptimizerName
  readonly session: SessionOptions
  /** Called after every run of the program. */
  readonly onProgress?: (stepsDone: number, stepsInAll: number, loss: number) => void
  readonly checkpoint?: Checkpoint | undefined
}

/** Store for the state of training, from which training that was cut off goes on. */
export interface Checkpoint {
  /** Least time between two saves, in milliseconds. */
  readonly everyMs: number
  /** State that was saved last, if any. */
  readonly load: () => TrainingState | undefined
  readonly save: (state: TrainingState) => void
}

/** Complete state between two runs of the program. */
export interface TrainingState {
  /** Steps done. */
  readonly done: number
  /** Steps since the optimizer's state was zero. */
  readonly taken: number
  readonly parameters: Float32Array
  /** State of the optimizer. */
  readonly state: readonly Float32Array[]
  readonly best: { readonly parameters: Float32Array; readonly loss: number }
  readonly losses: Float32Array
  readonly rollbacks: readonly number[]
}

export interface Trained {
  /** Parameters at the end of the epoch with the least mean loss. */
  readonly parameters: Float32Array
  /** Mean squared error of the block's output before each step; NaN where it was not finite. */
  readonly losses: Float32Array
  /** Steps at which the loss or a parameter was not finite. Training went on from the best parameters at half the learning rate. */
  readonly rollbacks: readonly number[]
}

/** Give up after this many divergences; the best parameters are kept. 2^-20 of any sensible learning rate moves nothing. */
const MAX_ROLLBACKS = 20

/** Factors on the learning rate for steps `first` to `first + count` of `total` (arXiv:1608.03983 eq. 5, without restarts). */
function rateFactors(schedule: Schedule, first: number, count: number, total: number): Float32Array {
  if (schedule === 'constant') return new Float32Array(count).fill(1)
  return Float32Array.from({ length: count }, (_, i) => (1 + Math.cos((Math.PI * (first + i)) / total)) / 2)
}

/** Results of a run of the program. */
interface Run {
  readonly parameters: Float32Array
  readonly state: readonly Float32Array[]
  readonly losses: Float32Array
}

/**
 * Learns the block's parameters: one sample a step, samples in order in every epoch (as the reference implementation).
 * The result is the same for any number of steps a run, and after a checkpoint.
 * @param x block inputs from the already quantized part of the model, @param y outputs of the float model: [samples] of
 * [batch, tokens, hidden]. @param weights run inputs of the program.
 */
export async function trainBlock(
  plan: BlockPlan,
  vector: ParameterVector,
  { x, y }: { readonly x: ActivationStore; readonly y: ActivationStore },
  weights: Tensors,
  settings: TrainSettings,
): Promise<Trained> {
  const { samples, epochs, schedule, onProgress, checkpoint } = settings
  const total = samples * epochs
  const optimizer = optimizerOf(settings.optimizer, vector.segments)
  const fresh = () => optimizer.state.map(({ size }) => new Float32Array(size))
  const initial = vector.initial()
  if (total === 0) return { parameters: initial, losses: new Float32Array(0), rollbacks: [] }
  let at: TrainingState = checkpoint?.load() ?? {
    done: 0,
    taken: 0,
    parameters: initial,
    state: fresh(),
    best: { parameters: initial, loss: Infinity },
    losses: new Float32Array(total).fill(NaN),
    rollbacks: [],
  }
  const { losses } = at

  const program = trainingProgram(plan, vector, optimizer, x.dtype)
  const lengths = new RunLength(settings.session.device, x.sampleBytes + y.sampleBytes)
  const session = await compile(program, sessionFor(settings.session, weights), weights)
  const run = async (steps: number): Promise<Run> => {
    const first = at.done % samples
    const rate = rateFactors(schedule, at.done, steps, total).map(factor => factor / 2 ** at.rollbacks.length)
    const state = optimizer.state.map(({ name, size }, i) => [name, tensorOf('float32', [size], at.state[i]!)])
    const result = await session.run({
      steps: tensorOf('int64', [], BigInt64Array.of(BigInt(steps))),
      done: tensorOf('float32', [], Float32Array.of(at.taken)),
      rate: tensorOf('float32', [steps], rate),
      x: x.tensor(first, steps),
      y: y.tensor(first, steps),
      parameters: tensorOf('float32', [vector.size], at.parameters),
      ...(Object.fromEntries(state) as Tensors),
    })
    const floats = (name: string) => readElements(result[name]!) as Float32Array
    return {
      parameters: floats('next_parameters'),
      state: optimizer.state.map(({ name }) => floats(`next_${name}`)),
      losses: floats('losses'),
    }
  }

  try {
    let saved = performance.now()
    while (at.done < total && at.rollbacks.length <= MAX_ROLLBACKS) {
      const steps = lengths.next(samples - (at.done % samples))
      const started = performance.now()
      const result = await run(steps)
      lengths.took(steps, performance.now() - started)
      at = after(at, result, steps, { samples, fresh })
      onProgress?.(at.done, total, losses[at.done - 1]!)
      if (checkpoint && performance.now() - saved >= checkpoint.everyMs) {
        checkpoint.save(at)
        saved = performance.now()
      }
    }
    return { parameters: at.best.parameters, losses, rollbacks: at.rollbacks }
  } finally {
    await session.release()
  }
}

/** State after a run of `steps` steps. Its losses are written into the array that the state before has. */
function after(
  { done, taken, best, losses, rollbacks }: TrainingState,
  result: Run,
  steps: number,
  { samples, fresh }: { readonly samples: number; readonly fresh: () => Float32Array[] },
): TrainingState {
  losses.set(result.losses, done)
  const epochEnds = (done + steps) % samples === 0
  const firstBad = result.losses.findIndex(loss => !Number.isFinite(loss))
  // Within an epoch, parameters that are not finite show in the next loss, wherever the runs are cut.
  const bad = firstBad < 0 && epochEnds && !result.parameters.every(Number.isFinite) ? steps : firstBad
  if (bad >= 0) {
    // Steps after the first bad one are taken back, and their losses with them.
    losses.fill(NaN, done + bad, done + steps)
    return {
      done: done + Math.min(bad + 1, steps),
      taken: 0,
      parameters: best.parameters,
      state: fresh(),
      best,
      losses,
      rollbacks: [...rollbacks, done + bad],
    }
  }
  const { parameters, state } = result
  const next = { done: done + steps, taken: taken + steps, parameters, state, best, losses, rollbacks }
  if (!epochEnds) return next
  const loss = meanFinite(losses.subarray(next.done - samples, next.done))
  return loss < best.loss ? { ...next, best: { parameters, loss } } : next
}

/** Mean of the finite numbers; infinite for none. */
function meanFinite(values: Float32Array): number {
  const finite = values.filter(Number.isFinite)
  return finite.length === 0 ? Infinity : finite.reduce((sum, value) => sum + value, 0) / finite.length
}
