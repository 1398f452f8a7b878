/** @file Runs a block's training program, in runs short enough to report progress and to be interrupted between. Never ends in NaN. */

import { type OptimizerName, optimizerOf } from '../autodiff/optimizer.ts'
import type { ActivationStore } from '../calibration/activation-store.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements, tensorOf } from '../graph/tensor.ts'
import { compile, type SessionOptions, type Tensors } from '../kernels/session.ts'
import type { ParameterVector } from './parameters.ts'
import type { BlockPlan } from './plan.ts'
import { trainingProgram } from './programs.ts'

export type Schedule = 'constant' | 'cosine'

export interface TrainSettings {
  /** 0 learns nothing: the parameters stay what they begin with. */
  readonly epochs: number
  readonly samples: number
  /** How the learning rate goes over the steps: as it is, or falling to 0 along a half cosine. */
  readonly schedule: Schedule
  readonly optimizer: OptimizerName
  readonly session: SessionOptions
  /** Called after every run of the program. */
  readonly onProgress?: (stepsDone: number, stepsInAll: number, loss: number) => void
}

export interface Trained {
  /** Those at the end of the epoch with the least mean loss. */
  readonly parameters: Float32Array
  /** Mean squared error of the block's output before each step; NaN where it was not finite. */
  readonly losses: Float32Array
  /** Steps at which the loss or a parameter stopped being finite: the best parameters came back, at half the learning rate. */
  readonly rollbacks: readonly number[]
}

/** A run of the program should take about this long: often enough for progress, rare enough to cost nothing. */
const RUN_SECONDS = 0.5

/** So often a block may diverge; then it ends with the best it had. 2^-20 of any sensible learning rate moves nothing. */
const MAX_ROLLBACKS = 20

/** Factors on the learning rate for steps `first` to `first + count` of `total` (arXiv:1608.03983 eq. 5, without restarts). */
function rateFactors(schedule: Schedule, first: number, count: number, total: number): Float32Array {
  if (schedule === 'constant') return new Float32Array(count).fill(1)
  return Float32Array.from({ length: count }, (_, i) => (1 + Math.cos((Math.PI * (first + i)) / total)) / 2)
}

/** What a run of the program leaves behind. */
interface Run {
  readonly parameters: Float32Array
  readonly state: Float32Array[]
  readonly losses: Float32Array
}

/** Index of the first loss that is not finite; the run's length when only the parameters it ended with are not; -1 when all is well. */
function firstBad({ losses, parameters }: Run): number {
  const bad = losses.findIndex(loss => !Number.isFinite(loss))
  return bad < 0 && !parameters.every(Number.isFinite) ? losses.length : bad
}

/**
 * Learns the block's parameters: one sample a step, samples in order in every epoch (as the reference implementation).
 * How many steps share a run does not change a bit of the result.
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
  const { samples, epochs, schedule, onProgress } = settings
  const shape = staticShape(plan.block.input)
  const total = samples * epochs
  const losses = new Float32Array(total).fill(NaN)
  const rollbacks: number[] = []
  const optimizer = optimizerOf(settings.optimizer, vector.segments)
  const fresh = () => optimizer.state.map(({ size }) => new Float32Array(size))
  const best = { parameters: vector.initial(), loss: Infinity }
  if (total === 0) return { parameters: best.parameters, losses, rollbacks }

  const session = await compile(trainingProgram(plan, vector, optimizer), settings.session)
  let current: Omit<Run, 'losses'> = { parameters: best.parameters, state: fresh() }
  /** Steps since the optimizer's state was zero. */
  let taken = 0
  const run = async (first: number, done: number, steps: number): Promise<Run> => {
    const rate = rateFactors(schedule, done, steps, total).map(factor => factor / 2 ** rollbacks.length)
    const state = optimizer.state.map(({ name, size }, i) => [name, tensorOf('float32', [size], current.state[i]!)])
    const result = await session.run({
      steps: tensorOf('int64', [], BigInt64Array.of(BigInt(steps))),
      done: tensorOf('float32', [], Float32Array.of(taken)),
      rate: tensorOf('float32', [steps], rate),
      x: tensorOf('float32', [steps, ...shape], x.read(first, steps)),
      y: tensorOf('float32', [steps, ...shape], y.read(first, steps)),
      parameters: tensorOf('float32', [vector.size], current.parameters),
      ...(Object.fromEntries(state) as Tensors),
      ...weights,
    })
    const floats = (name: string) => readElements(result[name]!) as Float32Array
    return {
      parameters: floats('next_parameters'),
      state: optimizer.state.map(({ name }) => floats(`next_${name}`)),
      losses: floats('losses'),
    }
  }

  try {
    let length = 1
    for (let done = 0; done < total && rollbacks.length <= MAX_ROLLBACKS;) {
      const first = done % samples
      const steps = Math.min(length, samples - first)
      const started = performance.now()
      const result = await run(first, done, steps)
      length = Math.max(1, Math.round((steps * RUN_SECONDS * 1000) / (performance.now() - started)))
      losses.set(result.losses, done)
      const bad = firstBad(result)
      if (bad >= 0) {
        // Losses after the first bad one are those of a run that is taken back.
        losses.fill(NaN, done + bad, done + steps)
        rollbacks.push(done + bad)
        current = { parameters: best.parameters, state: fresh() }
        taken = 0
        done += Math.min(bad + 1, steps)
      } else {
        current = result
        taken += steps
        done += steps
      }
      if (done % samples === 0) {
        const loss = meanFinite(losses.subarray(done - samples, done))
        if (bad < 0 && loss < best.loss) Object.assign(best, { parameters: current.parameters, loss })
      }
      onProgress?.(done, total, losses[done - 1]!)
    }
    return { parameters: best.parameters, losses, rollbacks }
  } finally {
    await session.release()
  }
}

/** Mean of the finite numbers; infinite for none. */
function meanFinite(values: Float32Array): number {
  const finite = values.filter(Number.isFinite)
  return finite.length === 0 ? Infinity : finite.reduce((sum, value) => sum + value, 0) / finite.length
}
