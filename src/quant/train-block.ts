/** @file Runs a block's training program, in runs short enough to report progress and to be interrupted between. */

import type { ActivationStore } from '../calibration/activation-store.ts'
import { staticShape } from '../graph/shape.ts'
import { readElements, tensorOf } from '../graph/tensor.ts'
import { compile, type SessionOptions, type Tensors } from '../kernels/session.ts'
import type { ParameterVector } from './parameters.ts'
import type { BlockPlan } from './plan.ts'
import { trainingProgram } from './programs.ts'

export type Schedule = 'constant' | 'cosine'

export interface TrainSettings {
  readonly epochs: number
  readonly samples: number
  /** How the learning rate goes over the steps: as it is, or falling to 0 along a half cosine. */
  readonly schedule: Schedule
  readonly session: SessionOptions
  /** Called after every run of the program. */
  readonly onProgress?: (stepsDone: number, stepsInAll: number, loss: number) => void
}

export interface Trained {
  readonly parameters: Float32Array
  /** Mean squared error of the block's output before each step. */
  readonly losses: Float32Array
  /** The step whose loss was not finite; training of the block ended there, with the last good parameters. */
  readonly divergedAt: number | undefined
}

/** A run of the program should take about this long: often enough for progress, rare enough to cost nothing. */
const RUN_SECONDS = 0.5

/** Factors on the learning rate for steps `first` to `first + count` of `total` (arXiv:1608.03983 eq. 5, without restarts). */
function rateFactors(schedule: Schedule, first: number, count: number, total: number): Float32Array {
  if (schedule === 'constant') return new Float32Array(count).fill(1)
  return Float32Array.from({ length: count }, (_, i) => (1 + Math.cos((Math.PI * (first + i)) / total)) / 2)
}

/**
 * Learns the block's parameters: one sample a step, samples in order in every epoch (as the reference implementation),
 * AdamW. How many steps share a run does not change a bit of the result.
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
  const losses = new Float32Array(total)
  let state = [vector.initial(), new Float32Array(vector.size), new Float32Array(vector.size)] as Float32Array[]
  const session = await compile(trainingProgram(plan, vector), settings.session)
  try {
    let length = 1
    for (let done = 0; done < total;) {
      const first = done % samples
      const steps = Math.min(length, samples - first)
      const [parameters, m, v] = state.map(values => tensorOf('float32', [vector.size], values))
      const started = performance.now()
      const result = await session.run({
        steps: tensorOf('int64', [], BigInt64Array.of(BigInt(steps))),
        done: tensorOf('float32', [], Float32Array.of(done)),
        rate: tensorOf('float32', [steps], rateFactors(schedule, done, steps, total)),
        x: tensorOf('float32', [steps, ...shape], x.read(first, steps)),
        y: tensorOf('float32', [steps, ...shape], y.read(first, steps)),
        parameters: parameters!,
        m: m!,
        v: v!,
        ...weights,
      })
      const seconds = (performance.now() - started) / 1000
      const floats = (name: string) => readElements(result[name]!) as Float32Array
      const runLosses = floats('losses')
      losses.set(runLosses, done)
      const bad = runLosses.findIndex(loss => !Number.isFinite(loss))
      if (bad >= 0) return { parameters: state[0]!, losses: losses.subarray(0, done + bad), divergedAt: done + bad }
      state = ['next_parameters', 'next_m', 'next_v'].map(floats)
      done += steps
      length = Math.max(1, Math.round((steps * RUN_SECONDS) / seconds))
      onProgress?.(done, total, runLosses[steps - 1]!)
    }
    return { parameters: state[0]!, losses, divergedAt: undefined }
  } finally {
    await session.release()
  }
}
