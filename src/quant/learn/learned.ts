/** @file Parameters of a block with their values: learned, or read from a file. */

import { type Tensor, tensorOf } from '../../graph/tensor.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { clipParameters } from './clipping.ts'
import { equivalenceParameters, type InitialEquivalence } from './equivalence.ts'
import { ParameterVector } from './parameters.ts'

/** Where the parameters of a block come from when they are not learned now; undefined for a block that is rounded. */
export type Replay = (plan: BlockPlan) => Learned | undefined

export interface LearnSettings {
  /** Learning rate of the clipping; undefined: no clipping is learned. */
  readonly clipRate: number | undefined
  /** Learning rate of the transformations. */
  readonly equivalenceRate: number
  /** Linears that are rounded to nearest, whatever the others learn. */
  readonly held?: ReadonlySet<Linear> | undefined
}

/** Parameters of a block and their values. */
export interface Learned {
  readonly vector: ParameterVector
  readonly parameters: Float32Array
}

/** A learned tensor, float32. */
export interface NamedParameter {
  readonly name: string
  readonly tensor: Tensor
}

/** What is learned for a block. `initial`: where each of the plan's mappings starts. */
export function blockParameters(
  plan: BlockPlan,
  initial: readonly InitialEquivalence[],
  { clipRate, equivalenceRate, held }: LearnSettings,
): ParameterVector {
  return new ParameterVector([
    ...(clipRate === undefined ? [] : clipParameters(plan, clipRate, held)),
    ...equivalenceParameters(plan, initial, equivalenceRate, held),
  ])
}

export const namedParameters = ({ vector, parameters }: Learned): NamedParameter[] =>
  vector.parameters.map(({ name, shape }) => ({
    name,
    tensor: tensorOf('float32', shape, vector.view(parameters, name)),
  }))
