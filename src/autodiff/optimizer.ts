/** @file The optimizers to choose from, behind one interface. Knows neither what is learned nor how often a step is taken. */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { adamW } from './adamw.ts'
import { stableSpam } from './stable-spam.ts'

export interface OptimizerInputs {
  /** float32 [size]: what is learned, as one vector. */
  readonly parameter: Value
  /** Of the loss, in the parameter's shape. */
  readonly gradient: Value
  /** What the step before returned, in the order of `Optimizer.state`. */
  readonly state: readonly Value[]
  /** float32 []: 1 at the first step. */
  readonly step: Value
  /** float32 [size] or []. */
  readonly learningRate: Value
}

export interface OptimizerOutputs {
  readonly parameter: Value
  readonly state: Value[]
}

export interface Optimizer {
  /** What is carried from step to step, float32 [size] each, all zeros before the first. */
  readonly state: readonly { readonly name: string; readonly size: number }[]
  /** Writes one step. */
  step(g: Builder, inputs: OptimizerInputs): OptimizerOutputs
}

export const OPTIMIZER_NAMES = ['adamw', 'stable-spam'] as const
export type OptimizerName = (typeof OPTIMIZER_NAMES)[number]

/** @param segments element counts of the tensors that lie one after the other in the parameter vector. */
export function optimizerOf(name: OptimizerName, segments: readonly number[]): Optimizer {
  return name === 'adamw' ? plainAdamW(segments) : stableSpam(segments)
}

function plainAdamW(segments: readonly number[]): Optimizer {
  const size = segments.reduce((sum, length) => sum + length, 0)
  return {
    state: [
      { name: 'm', size },
      { name: 'v', size },
    ],
    step(g, { parameter, gradient, state, step, learningRate }) {
      const next = adamW(g, { parameter, gradient, m: state[0]!, v: state[1]!, step, learningRate })
      return { parameter: next.parameter, state: [next.m, next.v] }
    },
  }
}
