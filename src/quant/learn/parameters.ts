/** @file Parameters of a block in one vector, so that the optimizer is the same few nodes for any number of them. */

import { joinStretches, type Stretch } from '../../autodiff/rates.ts'
import { internalError } from '../../errors.ts'
import { vectorInPieces } from '../../autodiff/fragments.ts'
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
    const vector = new Float32Array(this.size)
    for (const { name, initial } of this.parameters) {
      const elements = this.view(vector, name)
      if (typeof initial === 'number') elements.fill(initial)
      else elements.set(initial())
    }
    return vector
  }

  /** Stretches of the vector that have one learning rate. */
  stretches(): Stretch[] {
    return joinStretches(
      this.parameters.map(({ shape, learningRate }) => ({
        size: elementCount(shape),
        rate: typeof learningRate === 'number' ? learningRate : learningRate(),
      })),
    )
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
    const shapes = this.parameters.map(({ shape }) => shape)
    const parts = vectorInPieces(g, vector, shapes, 'parameter')
    return new Map(this.parameters.map(({ name }, i) => [name, parts[i]!]))
  }
}
