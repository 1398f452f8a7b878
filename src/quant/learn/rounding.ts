/**
 * @file Codes of weights: a number for each weight is added to it before it is rounded, in steps of the grid. It is learned (AdaRound,
 * arXiv 2004.10568; SignRound, arXiv 2309.05516), so that a weight may go to the code above or below, or GPTQ solves for it.
 */

import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import { ROUNDINGS } from '../terms/roundings.ts'
import type { Learnable, LearningStart } from './learnable.ts'
import type { Parameter } from './parameters.ts'

/** Name of a linear's offsets, [K, N]. @param index of the linear among those with a quantizer. */
export const offsetName = (linear: Linear, index: number): string => `${index}:${linear.name}:offset`

/** Offsets of every quantized linear, [K, N]. Frozen linears are rounded to nearest. */
function parameters({ quantizers }: BlockPlan, { method, frozen }: LearningStart): Parameter[] {
  return [...quantizers.keys()].map((linear, i) => ({
    name: offsetName(linear, i),
    shape: [linear.inFeatures, linear.outFeatures],
    initial: 0,
    learningRate: frozen.has(linear) ? 0 : method.roundingLearningRate,
  }))
}

const apply: Learnable['apply'] = (_g, plan, constants, values) => {
  const roundingOffsets = new Map(constants.roundingOffsets)
  ;[...plan.quantizers.keys()].forEach((linear, i) => {
    const offset = values.get(offsetName(linear, i))
    if (offset) roundingOffsets.set(linear, offset)
  })
  return { ...constants, roundingOffsets }
}

const codesOf = ({ rounding }: Method) => ROUNDINGS[rounding].codes

export const rounding: Learnable = {
  name: 'rounding',
  enabled: method => codesOf(method) !== 'nearest',
  learned: method => codesOf(method) === 'learned',
  solved: method => codesOf(method) === 'gptq',
  parameters,
  apply,
}
