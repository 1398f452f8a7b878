/** @file Observers of a block's forward runs: what is computed of the values of a sample, and how the samples are combined. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { Combinations } from '../../kernels/shared-session.ts'
import { elementCount, readElements, type Tensor, tensorOf } from '../../graph/tensor.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'

/** Combination of samples: the greatest or least number or the sum, element by element, or the numbers of each sample. */
export type Combination = 'max' | 'min' | 'sum' | 'each'

/** Values of the program that runs the block on a sample. */
export interface SampleValues {
  /** Value of the block as it is computed, before it is transformed or quantized. */
  readonly value: (value: Value) => Value
  /** Value of a site behind its matrix, if it has one, before it is quantized. */
  readonly atSite: (site: ActivationSite) => Value
  /** Input of a linear: behind the matrix of its site, and quantized where the run quantizes it. */
  readonly readBy: (linear: Linear) => Value
  /** Weight of a linear, [K, N]. */
  readonly weight: (linear: Linear) => Value
}

/**
 * Observation of the activations of a block while it runs over all samples. The program computes it. Max, min and sum are carried from
 * sample to sample and from run to run, so they do not depend on where the runs are cut, to the last bit. Their memory is some four
 * times `shape`; that of `each` is twice `shape` for every sample of a run.
 */
export interface Observer {
  /** Dimensions of what is computed of one sample. */
  readonly shape: readonly number[]
  readonly over: Combination
  /** Emits the observation of one sample, float32 of `shape`. */
  readonly emit: (g: Builder, sample: SampleValues) => Value
  /** Takes the result: of all samples, once at the end; with `each`, [samples, ...shape] of every run in order. */
  readonly take: (result: Float32Array) => void
}

/** Operators that combine two samples, and the number that changes nothing. */
const COMBINED = {
  max: { op: 'Max', neutral: -Infinity },
  min: { op: 'Min', neutral: Infinity },
  sum: { op: 'Add', neutral: 0 },
} as const

/** Observer whose result is carried from sample to sample. */
export type CarriedObserver = Observer & { readonly over: Exclude<Combination, 'each'> }

export const isCarried = (observer: Observer): observer is CarriedObserver => observer.over !== 'each'

/** The state after a sample. */
export const emitCombined = (g: Builder, { over }: CarriedObserver, before: Value, sample: Value): Value =>
  g.op(COMBINED[over].op, [before, sample])

/** Run inputs and outputs of observers, by position. */
export const observedName = (j: number): string => `observed${j}`

/** Name of the run input with the state of the j-th observer before the run. */
export const stateName = (j: number): string => `before${j}`

/** Results of observers over several runs of a forward program. */
export class Observations {
  private readonly observers: readonly Observer[]
  private readonly states = new Map<CarriedObserver, Tensor>()

  constructor(observers: readonly Observer[]) {
    this.observers = observers
    for (const observer of observers.filter(isCarried)) {
      const { shape, over } = observer
      const numbers = new Float32Array(elementCount(shape))
      this.states.set(
        observer,
        tensorOf('float32', shape, over === 'sum' ? numbers : numbers.fill(COMBINED[over].neutral)),
      )
    }
  }

  /** Combination of the states that several devices give. */
  get combinations(): Combinations {
    return Object.fromEntries(
      this.observers.flatMap((observer, j) =>
        isCarried(observer)
          ? [[observedName(j), { over: observer.over, ...(observer.over === 'sum' && { state: stateName(j) }) }]]
          : [],
      ),
    )
  }

  /** Run inputs of the next run. */
  get feeds(): Record<string, Tensor> {
    return Object.fromEntries(
      this.observers.flatMap((observer, j) =>
        isCarried(observer) ? [[stateName(j), this.states.get(observer)!]] : [],
      ),
    )
  }

  /** Takes in the outputs of a run. */
  add(outputs: Readonly<Record<string, Tensor>>): void {
    this.observers.forEach((observer, j) => {
      const result = outputs[observedName(j)]!
      if (isCarried(observer)) this.states.set(observer, result)
      else observer.take(readElements(result) as Float32Array)
    })
  }

  /** Hands over what was carried to the last sample. */
  end(): void {
    for (const [observer, state] of this.states) observer.take(readElements(state) as Float32Array)
  }
}
