/** @file Parameters of a block in one vector, so that the optimizer is the same few nodes for any number of them. */

import { internalError } from '../../errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { Shape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'

/** A learned tensor. */
export interface Parameter {
  readonly name: string
  readonly shape: Shape
  /** One number for all elements before the first step, or a function that computes them when learning begins. */
  readonly initial: number | (() => Float32Array)
  /** One number for all elements, or a function that computes it when learning begins. */
  readonly learningRate: number | (() => number)
}

/** Parameters one after the other in a vector of `size` elements. */
export class ParameterVector {
  readonly parameters: readonly Parameter[]
  readonly size: number
  private readonly offsets = new Map<string, number>()

  constructor(parameters: readonly Parameter[]) {
    this.parameters = parameters
    let size = 0
    for (const { name, shape } of parameters) {
      this.offsets.set(name, size)
      size += elementCount(shape)
    }
    this.size = size
  }

  /** The vector before the first step. */
  initial(): Float32Array {
    return this.fill(({ initial }) => (typeof initial === 'number' ? initial : initial()))
  }

  /** The learning rate of every element. */
  learningRates(): Float32Array {
    return this.fill(({ learningRate }) => (typeof learningRate === 'number' ? learningRate : learningRate()))
  }

  private fill(of: (parameter: Parameter) => number | Float32Array): Float32Array {
    const vector = new Float32Array(this.size)
    for (const parameter of this.parameters) {
      const elements = this.view(vector, parameter.name)
      const value = of(parameter)
      if (typeof value === 'number') elements.fill(value)
      else elements.set(value)
    }
    return vector
  }

  /** Element counts of the parameters, in order. */
  get segments(): number[] {
    return this.parameters.map(({ shape }) => elementCount(shape))
  }

  has(name: string): boolean {
    return this.offsets.has(name)
  }

  /** The elements of one parameter, as a view. @throws E_INTERNAL for an unknown name. */
  view(vector: Float32Array, name: string): Float32Array {
    const parameter = this.parameters.find(candidate => candidate.name === name)
    if (!parameter) throw internalError(`there is no parameter "${name}"`)
    const offset = this.offsets.get(name)!
    return vector.subarray(offset, offset + elementCount(parameter.shape))
  }

  /** Takes the vector apart in a program. */
  split(g: Builder, vector: Value): Map<string, Value> {
    const { segments } = this
    const parts = g.split(vector, segments, 0, { name: 'parameter' })
    return new Map(this.parameters.map(({ name, shape }, i) => [name, g.reshape(parts[i]!, shape)]))
  }
}
