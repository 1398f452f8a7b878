/** @file Training program of a block: a Loop of forward, gradients and optimizer. */

import { gradients } from '../../autodiff/backward.ts'
import { meanSquaredError } from '../../autodiff/loss.ts'
import type { Optimizer } from '../../autodiff/optimizer.ts'
import { Builder } from '../../graph/builder.ts'
import { type Dim, Graph, Node, Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { emitQuantizedBlock } from './emit-quantized.ts'
import type { ParameterVector } from './parameters.ts'
import { weightInputs } from './ports.ts'

/** Element `index` of a run input that has one for every step. The number of steps is the only size that is not static. */
function sample(g: Builder, samples: Value, index: Value, shape: readonly number[]): Value {
  const output = new Value(g.names.fresh('sample'), samples.dtype, shape)
  g.graph.nodes.push(new Node('Gather', [samples, index], [output], new Map(), '', output.name))
  return output
}

/**
 * Many steps of learning in one run: a Loop whose body is forward, gradients and the optimizer.
 * In: steps int64 [], done float32 [] (steps the optimizer has taken before), rate float32 [steps] (factor on the learning rates),
 * x and y [steps, batch, tokens, hidden], weights, parameters [size], the optimizer's state. Out: parameters' as `next_parameters`, the
 * state as `next_<name>`, losses [steps] (each before its step's update).
 */
export function trainingProgram(plan: BlockPlan, vector: ParameterVector, optimizer: Optimizer): Graph {
  const { block } = plan
  const shape = staticShape(block.input)
  const outer = new Builder(new Graph('train'))
  const steps = outer.input('steps', 'int64', [])
  const done = outer.input('done', 'float32', [])
  const perStep = (name: string, dims: readonly number[]): Value => {
    const value = new Value(outer.names.fresh(name), 'float32', ['steps', ...dims])
    outer.graph.inputs.push(value)
    return value
  }
  const [rate, x, y] = [perStep('rate', []), perStep('x', shape), perStep('y', shape)]
  const weights = weightInputs(outer, block)
  const carried = [{ name: 'parameters', size: vector.size }, ...optimizer.state]
  const state = carried.map(({ name, size }) => outer.input(name, 'float32', [size]))

  const g = new Builder(new Graph('step'), outer.names)
  const iteration = g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const [parameter, ...moments] = state.map((value, i) => g.input(value.name, 'float32', [carried[i]!.size]))
  const learned = vector.split(g, parameter!)
  const output = emitQuantizedBlock(g, plan, sample(g, x, iteration, shape), weights, learned, outer)
  const { loss, gradient } = meanSquaredError(g, output, sample(g, y, iteration, shape))
  const gradientOf = gradients(g, new Map([[output, gradient]]), [parameter!])
  const next = optimizer.step(g, {
    parameter: parameter!,
    gradient: gradientOf.get(parameter!)!,
    state: moments,
    step: g.shift(g.add(g.cast(iteration, 'float32'), done), 1),
    rates: { factor: sample(g, rate, iteration, []), stretches: vector.stretches() },
  })
  for (const value of [g.op('Identity', [condition]), next.parameter, ...next.state, loss]) g.output(value)

  const results: [string, readonly Dim[]][] = [
    ...carried.map(({ name, size }): [string, readonly Dim[]] => [`next_${name}`, [size]]),
    ['losses', ['steps']],
  ]
  const outputs = results.map(([name, dims]) => new Value(outer.names.fresh(name), 'float32', dims))
  outer.graph.nodes.push(
    new Node('Loop', [steps, undefined, ...state], outputs, new Map([['body', { type: 'graph', value: g.graph }]])),
  )
  outer.graph.outputs.push(...outputs)
  return outer.graph
}
