/** @file One step of AdamW as a graph fragment. Pure: state in, state out. Knows nothing of what the parameters are. */

import { internalError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { scaled } from './fragments.ts'
import { perStretch, type Rates } from './rates.ts'

export interface AdamWInput {
  readonly parameter: Value
  /** These three in the parameter's shape; m and v start as zeros. */
  readonly gradient: Value
  readonly m: Value
  readonly v: Value
  /** Scalar holding t, 1 at the first step, of the parameter's type. */
  readonly step: Value
  /** A number, a scalar of the parameter's type, or one rate for each stretch of the vector, then without weight decay. */
  readonly learningRate: number | Value | Rates
  readonly beta1?: number
  readonly beta2?: number
  readonly epsilon?: number
  readonly weightDecay?: number
}

export interface AdamWState {
  readonly parameter: Value
  readonly m: Value
  readonly v: Value
}

/** Bias corrections already written, by builder, step and beta: all parameters of a program share them. */
const CORRECTIONS = new WeakMap<Builder, WeakMap<Value, Map<number, Value>>>()

/**
 * 1 - beta^t. In float32 the subtraction would lose up to four digits (1 - 0.999), so with u = tanh(-t log(beta) / 2)
 * it is written as 2 u / (1 + u), which is the same number and loses none.
 */
export function biasCorrection(g: Builder, step: Value, beta: number): Value {
  const bySteps = CORRECTIONS.get(g) ?? new WeakMap<Value, Map<number, Value>>()
  const byBeta = bySteps.get(step) ?? new Map<number, Value>()
  CORRECTIONS.set(g, bySteps.set(step, byBeta))
  const known = byBeta.get(beta)
  if (known) return known
  const u = g.op('Tanh', [g.scale(step, -Math.log(beta) / 2)])
  const correction = g.div(g.scale(u, 2), g.shift(u, 1))
  byBeta.set(beta, correction)
  return correction
}

/**
 * arXiv:1711.05101 Algorithm 2 with the schedule factor inside the learning rate, as torch.optim.AdamW computes it:
 *   p <- p (1 - lr decay);  m <- m + (1 - b1) (g - m);  v <- b2 v + (1 - b2) g^2
 *   p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)
 * Calls for the same `step` share the bias corrections.
 */
export function adamW(g: Builder, input: AdamWInput): AdamWState {
  const { parameter, gradient, step, learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0 } = input
  const m = g.add(input.m, scaled(g, g.sub(gradient, input.m), 1 - beta1))
  const v = g.add(scaled(g, input.v, beta2), scaled(g, g.mul(gradient, gradient), 1 - beta2))
  const correction = biasCorrection(g, step, beta1)
  const atRate = (part: Value, rate: Value) => g.mul(part, g.div(rate, correction))
  const rootCorrection = g.op('Sqrt', [biasCorrection(g, step, beta2)])
  const denominator = g.shift(g.div(g.op('Sqrt', [v]), rootCorrection), epsilon)
  const update = (moved: Value) => g.div(moved, denominator)
  if (typeof learningRate === 'object' && 'stretches' in learningRate) {
    if (weightDecay !== 0) throw internalError('weight decay needs one learning rate')
    return { parameter: g.sub(parameter, update(perStretch(g, m, learningRate, atRate))), m, v }
  }
  const rate = typeof learningRate === 'number' ? g.scalar(learningRate, parameter.dtype) : learningRate
  return { parameter: g.sub(decayed(g, parameter, learningRate, weightDecay), update(atRate(m, rate))), m, v }
}

/** p (1 - lr decay) */
function decayed(g: Builder, parameter: Value, learningRate: number | Value, weightDecay: number): Value {
  if (weightDecay === 0) return parameter
  if (typeof learningRate === 'number') return scaled(g, parameter, 1 - learningRate * weightDecay)
  return g.mul(parameter, g.shift(scaled(g, learningRate, -weightDecay), 1))
}
