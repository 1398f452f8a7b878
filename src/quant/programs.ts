/** @file The programs a block is worked on with: forward, training, folding. Writes graphs; runs nothing. */

import { adamW } from '../autodiff/adamw.ts'
import { gradients } from '../autodiff/backward.ts'
import { meanSquaredError } from '../autodiff/loss.ts'
import { Builder } from '../graph/builder.ts'
import { type Dim, Graph, Node, Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { tensorOf } from '../graph/tensor.ts'
import type { Block } from './blocks.ts'
import { emitClipped, emitRanges } from './clipping.ts'
import { emitBlock, type Weights } from './emit-block.ts'
import type { ParameterVector } from './parameters.ts'
import type { BlockPlan } from './plan.ts'

/** Name of the run input that carries the weight of the block's i-th linear, float32 [K, N]. */
export const weightInput = (i: number): string => `w${i}`

/**
 * Weights are run inputs, not constants: onnxruntime neither copies nor rearranges those, so a program costs no memory
 * beyond the block's own weights (design/ort-facts.md section 5).
 */
function weightInputs(g: Builder, block: Block): Weights {
  return new Map(
    block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
}

/** x [batch, tokens, hidden], weights -> y, the block's output. */
export function forwardProgram(block: Block): Graph {
  const g = new Builder(new Graph('forward'))
  const x = g.input('x', 'float32', staticShape(block.input))
  g.output(emitBlock(g, block, x, weightInputs(g, block)), 'y')
  return g.graph
}

/** Element `index` of a run input with one for every step, however many; the rest of a program has static shapes. */
function sample(g: Builder, samples: Value, index: Value, shape: readonly number[]): Value {
  const output = new Value(g.names.fresh('sample'), samples.dtype, shape)
  g.graph.nodes.push(new Node('Gather', [samples, index], [output], new Map(), '', output.name))
  return output
}

/**
 * Many steps of learning in one run: a Loop whose body is forward, gradients and AdamW.
 * In: steps int64 [], done float32 [] (steps taken in earlier runs), rate float32 [steps] (factor on the learning rates),
 * x and y [steps, batch, tokens, hidden], weights, parameters, m, v [size]. Out: parameters', m', v', losses [steps] (each before its step's update).
 */
export function trainingProgram(plan: BlockPlan, vector: ParameterVector): Graph {
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
  const ranges = emitRanges(outer, plan, weights)
  const rates = outer.initializer('learning_rates', tensorOf('float32', [vector.size], vector.learningRates()))
  const state = ['parameters', 'm', 'v'].map(name => outer.input(name, 'float32', [vector.size]))

  const g = new Builder(new Graph('step'), outer.names)
  const iteration = g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const [parameters, m, v] = state.map(value => g.input(value.name, 'float32', [vector.size])) as [Value, Value, Value]
  const quantized = emitClipped(g, plan, weights, ranges, vector.split(g, parameters))
  const fakeWeights = new Map([...quantized].map(([linear, { output }]) => [linear, output]))
  const output = emitBlock(g, block, sample(g, x, iteration, shape), new Map([...weights, ...fakeWeights]))
  const { loss, gradient } = meanSquaredError(g, output, sample(g, y, iteration, shape))
  const gradientOf = gradients(g, new Map([[output, gradient]]), [parameters])
  const step = g.shift(g.add(g.cast(iteration, 'float32'), done), 1)
  const learningRate = g.mul(rates, sample(g, rate, iteration, []))
  const gradientOfAll = gradientOf.get(parameters)!
  const next = adamW(g, { parameter: parameters, gradient: gradientOfAll, m, v, step, learningRate })
  for (const value of [g.op('Identity', [condition]), next.parameter, next.m, next.v, loss]) g.output(value)

  const results: [string, readonly Dim[]][] = [
    ['next_parameters', [vector.size]],
    ['next_m', [vector.size]],
    ['next_v', [vector.size]],
    ['losses', ['steps']],
  ]
  const outputs = results.map(([name, dims]) => new Value(outer.names.fresh(name), 'float32', dims))
  outer.graph.nodes.push(
    new Node('Loop', [steps, undefined, ...state], outputs, new Map([['body', { type: 'graph', value: g.graph }]])),
  )
  outer.graph.outputs.push(...outputs)
  return outer.graph
}

/**
 * What training ended with, as numbers to store: weights and, when something was learned, parameters [size] ->
 * per linear i: codes{i} uint8 [K, N], scale{i} float32 [groups, N], zero_point{i} uint8 [groups, N], and
 * weight{i} float32 [K, N], the weight the stored numbers stand for.
 */
export function foldProgram(plan: BlockPlan, vector: ParameterVector | undefined): Graph {
  const g = new Builder(new Graph('fold'))
  const weights = weightInputs(g, plan.block)
  const parameters = vector && vector.split(g, g.input('parameters', 'float32', [vector.size]))
  const quantized = [...emitClipped(g, plan, weights, emitRanges(g, plan, weights), parameters).values()]
  quantized.forEach(({ codes, scale, zeroPoint, output }, i) => {
    g.output(g.cast(codes, 'uint8'), `codes${i}`)
    g.output(g.op('Identity', [scale]), `scale${i}`)
    g.output(g.cast(zeroPoint, 'uint8'), `zero_point${i}`)
    g.output(output, `weight${i}`)
  })
  return g.graph
}
