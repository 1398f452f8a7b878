/** @file Parameters of a block with their values: learned, or read from a file. */

import { type Tensor, tensorOf } from '../../graph/tensor.ts'
import type { ParameterVector } from './parameters.ts'

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

export const namedParameters = ({ vector, parameters }: Learned): NamedParameter[] =>
  vector.parameters.map(({ name, shape }) => ({
    name,
    tensor: tensorOf('float32', shape, vector.view(parameters, name)),
  }))
