/** @file Optimizers by name. */

import { adamW } from './adamw.ts'
import type { Optimizer } from './optimizer.ts'
import { signSgd } from './sign-sgd.ts'
import { stableSpam } from './stable-spam.ts'

export const OPTIMIZER_NAMES = ['adamw', 'stable-spam', 'sign-sgd'] as const

export type OptimizerName = (typeof OPTIMIZER_NAMES)[number]

/** @param segments element counts of the tensors that lie one after the other in the parameter vector. */
export function optimizerOf(name: OptimizerName, segments: readonly number[]): Optimizer {
  return OPTIMIZERS[name](segments)
}

function plainAdamW(segments: readonly number[]): Optimizer {
  const size = segments.reduce((sum, length) => sum + length, 0)
  return {
    state: [
      { name: 'm', size },
      { name: 'v', size },
    ],
    step(g, { parameter, gradient, state, step, rates }) {
      const next = adamW(g, { parameter, gradient, m: state[0]!, v: state[1]!, step, learningRate: rates })
      return { parameter: next.parameter, state: [next.m, next.v] }
    },
  }
}

const OPTIMIZERS: Readonly<Record<OptimizerName, (segments: readonly number[]) => Optimizer>> = {
  adamw: plainAdamW,
  'stable-spam': stableSpam,
  'sign-sgd': () => signSgd,
}
