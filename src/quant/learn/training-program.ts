/** @file Training program of a block: a Loop of forward, gradients and optimizer. */

import { gradients } from '../../autodiff/backward.ts'
import { meanSquaredError } from '../../autodiff/loss.ts'
import type { Optimizer } from '../../autodiff/optimizer.ts'
import { Builder } from '../../graph/builder.ts'
import { Graph, type Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { StateType } from '../../calibration/activation-store.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { emitQuantizedBlock } from './emit-quantized.ts'
import type { ParameterVector } from './parameters.ts'
import { weightInputs } from './ports.ts'
import { emitLoop, perSample, sampleAt } from './samples.ts'

/**
 * Many steps of learning in one run: a Loop whose body is forward, gradients and the optimizer.
 * In: steps int64 [], done float32 [] (steps the optimizer has taken before), rate float32 [steps] (factor on the learning rates),
 * x and y of `stateType` [steps, batch, tokens, hidden], weights, parameters [size], the optimizer's state. Out: parameters' as
 * `next_parameters`, the state as `next_<name>`, losses [steps] (each before its step's update).
 */
export function trainingProgram(
  plan: BlockPlan,
  vector: ParameterVector,
  optimizer: Optimizer,
  stateType: StateType = 'float32',
): Graph {
  const { block } = plan
  const shape = staticShape(block.input)
  const outer = new Builder(new Graph('train'))
  const steps = outer.input('steps', 'int64', [])
  const done = outer.input('done', 'float32', [])
  const rate = perSample(outer, 'rate', 'steps', [])
  const [x, y] = ['x', 'y'].map(name => perSample(outer, name, 'steps', shape, stateType)) as [Value, Value]
  const weights = weightInputs(outer, block)
  const rates = outer.initializer('learning_rates', tensorOf('float32', [vector.size], vector.learningRates()))
  const carried = [{ name: 'parameters', size: vector.size }, ...optimizer.state]
  const state = carried.map(({ name, size }) => outer.input(name, 'float32', [size]))

  const g = new Builder(new Graph('step'), outer.names)
  const iteration = g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const [parameter, ...moments] = state.map((value, i) => g.input(value.name, 'float32', [carried[i]!.size]))
  const learned = vector.split(g, parameter!)
  const output = emitQuantizedBlock(g, plan, sampleAt(g, x, iteration, shape), weights, learned, outer)
  const { loss, gradient } = meanSquaredError(g, output, sampleAt(g, y, iteration, shape))
  const gradientOf = gradients(g, new Map([[output, gradient]]), [parameter!])
  const next = optimizer.step(g, {
    parameter: parameter!,
    gradient: gradientOf.get(parameter!)!,
    state: moments,
    step: g.shift(g.add(g.cast(iteration, 'float32'), done), 1),
    learningRate: g.mul(rates, sampleAt(g, rate, iteration, [])),
  })
  for (const value of [g.op('Identity', [condition]), next.parameter, ...next.state, loss]) g.output(value)

  emitLoop(outer, steps, state, g.graph, [
    ...carried.map(({ name, size }) => ({ name: `next_${name}`, shape: [size] })),
    { name: 'losses', shape: ['steps'] },
  ])
  return outer.graph
}
