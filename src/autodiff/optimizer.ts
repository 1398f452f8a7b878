/** @file Optimizer as a type: what a step reads and what it gives back. */

import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import type { Rates } from './rates.ts'

export interface OptimizerInputs {
  /** float32 [size]: what is learned, as one vector. */
  readonly parameter: Value
  /** Gradient of the loss, in the parameter's shape. */
  readonly gradient: Value
  /** State that the step before returned, in the order of `Optimizer.state`. */
  readonly state: readonly Value[]
  /** float32 []: 1 at the first step. */
  readonly step: Value
  /** Learning rates of this step. */
  readonly rates: Rates
}

export interface OptimizerOutputs {
  readonly parameter: Value
  readonly state: Value[]
}

export interface Optimizer {
  /** State that is carried from step to step: float32 [size] each, zeros before the first step. */
  readonly state: readonly { readonly name: string; readonly size: number }[]
  /** Writes one step. */
  step(g: Builder, inputs: OptimizerInputs): OptimizerOutputs
}
