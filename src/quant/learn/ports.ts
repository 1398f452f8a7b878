/** @file Names and run inputs by which the programs of a block exchange weights, constants and observations. */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import type { Block } from '../find/blocks.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Changes, Weights } from './emit-block.ts'

/** Name of the output with the number of tokens the j-th expert was sent, float32 []. */
export const tokensName = (j: number): string => `tokens${j}`

/** Name of the run input that carries the weight of the block's i-th linear, float32 [K, N]. */
export const weightInput = (i: number): string => `w${i}`

/**
 * Weights are run inputs, not constants: onnxruntime neither copies nor rearranges those, so a program costs no memory
 * beyond the block's own weights (onnxruntime 1.30).
 */
export function weightInputs(g: Builder, block: Block): Weights {
  return new Map(
    block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
}

/** Names of the run inputs and outputs that carry changed constants: the j-th of plan.changedSites, of plan.addedBiases. */
export const constantName = (j: number): string => `c${j}`

export const biasName = (j: number): string => `b${j}`

/** Names of the outputs with the greatest and least of every channel of what the j-th activation site sees, [channels]. */
export const maximumName = (j: number): string => `max${j}`

export const minimumName = (j: number): string => `min${j}`

/** Changed constants as run inputs. */
export function changeInputs(g: Builder, { changedSites, addedBiases }: BlockPlan): Changes {
  const constants = new Map<Node, Map<number, Value>>()
  changedSites.forEach(({ site: { node, input } }, j) => {
    const value = g.input(constantName(j), 'float32', node.inputs[input]!.tensor!.dims)
    constants.set(node, (constants.get(node) ?? new Map<number, Value>()).set(input, value))
  })
  const biases = addedBiases.map((linear, j): [typeof linear, Value] => [
    linear,
    g.input(biasName(j), 'float32', [linear.outFeatures]),
  ])
  return { constants, biases: new Map(biases) }
}
