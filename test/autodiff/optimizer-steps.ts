/** @file Steps of an optimizer in onnxruntime, one run each, with gradients given beforehand. */

import type { Optimizer } from '../../src/autodiff/optimizer.ts'
import { joinStretches } from '../../src/autodiff/rates.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, readNumbers, type Tensor } from '../../src/graph/tensor.ts'
import { compile } from '../../src/kernels/session.ts'

export interface StepInputs {
  readonly start: readonly number[]
  /** One row a step. */
  readonly gradients: readonly (readonly number[])[]
  readonly learningRate: number | readonly number[]
}

export interface StepResult {
  readonly parameter: number[]
  /** By name of the state. */
  readonly state: Readonly<Record<string, number[]>>
}

/**
 * One step, with run inputs p, g, t, lr (a factor on the rates) and the state by its names; its outputs are these with `_next`. `rates`:
 * one for each element.
 */
export function stepGraph(
  optimizer: Optimizer,
  size: number,
  rates: readonly number[] = Array<number>(size).fill(1),
): Builder {
  const g = new Builder()
  const input = (name: string, shape: readonly number[]) => g.input(name, 'float32', shape)
  const [parameter, gradient, step, learningRate] = [
    input('p', [size]),
    input('g', [size]),
    input('t', []),
    input('lr', []),
  ]
  const state = optimizer.state.map(({ name, size }) => input(name, [size]))
  const stretches = joinStretches(rates.map(rate => ({ size: 1, rate })))
  const next = optimizer.step(g, { parameter, gradient, state, step, rates: { factor: learningRate, stretches } })
  g.output(next.parameter, 'p_next')
  next.state.forEach((value, i) => g.output(value, `${optimizer.state[i]!.name}_next`))
  return g
}

/** Results of every step. */
export async function runSteps(
  optimizer: Optimizer,
  { start, gradients, learningRate }: StepInputs,
): Promise<StepResult[]> {
  const size = start.length
  const [factor, rates] = typeof learningRate === 'number' ? [learningRate, undefined] : [1, learningRate]
  const rate = floatTensor([], [factor])
  const session = await compile(stepGraph(optimizer, size, rates).graph, { threads: 1 })
  let parameter = floatTensor([size], start)
  let state: Record<string, Tensor> = Object.fromEntries(
    optimizer.state.map(({ name, size }) => [name, floatTensor([size], new Array<number>(size).fill(0))]),
  )
  const results: StepResult[] = []
  try {
    for (const [i, gradient] of gradients.entries()) {
      const feeds = { p: parameter, g: floatTensor([size], gradient), t: floatTensor([], [i + 1]), lr: rate, ...state }
      const outputs = await session.run(feeds)
      parameter = outputs.p_next!
      state = Object.fromEntries(optimizer.state.map(({ name }) => [name, outputs[`${name}_next`]!]))
      const numbers = Object.entries(state).map(([name, tensor]) => [name, readNumbers(tensor)] as const)
      results.push({ parameter: readNumbers(parameter), state: Object.fromEntries(numbers) })
    }
  } finally {
    await session.release()
  }
  return results
}
