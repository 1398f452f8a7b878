/** @file The programs a block is worked on with: forward, training, folding. Writes graphs; runs nothing. */

import { gradients } from '../autodiff/backward.ts'
import { meanSquaredError } from '../autodiff/loss.ts'
import type { Optimizer } from '../autodiff/optimizer.ts'
import { Builder } from '../graph/builder.ts'
import { type Dim, Graph, Node, Value } from '../graph/ir.ts'
import { extract } from '../graph/extract.ts'
import { staticShape } from '../graph/shape.ts'
import { tensorOf } from '../graph/tensor.ts'
import type { Block } from './blocks.ts'
import { emitClipped, emitRanges } from './clipping.ts'
import type { EmittedRange, FakeQuantized } from '../kernels/fake-quantize.ts'
import { type Changes, emitBlock, type Weights } from './emit-block.ts'
import { emitEquivalence } from './equivalence.ts'
import { emitTokenCount, type Expert, tokensName } from './experts.ts'
import type { Linear } from './linears.ts'
import type { ParameterVector } from './parameters.ts'
import type { BlockPlan } from './plan.ts'

/** Name of the run input that carries the weight of the block's i-th linear, float32 [K, N]. */
export const weightInput = (i: number): string => `w${i}`

/**
 * Weights are run inputs, not constants: onnxruntime neither copies nor rearranges those, so a program costs no memory
 * beyond the block's own weights (onnxruntime 1.30).
 */
function weightInputs(g: Builder, block: Block): Weights {
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

export interface ForwardOptions {
  /** Read transformed constants, as run inputs. */
  readonly transformed?: boolean
  /** Quantize activations as the plan says. */
  readonly quantized?: boolean
  /** Values whose channels are to be measured as well. */
  readonly observed?: readonly Value[]
  /** Experts whose tokens are to be counted. */
  readonly counted?: readonly Expert[] | undefined
}

/** Changed constants as run inputs. */
function changeInputs(g: Builder, { changedSites, addedBiases }: BlockPlan): Changes {
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

/**
 * x [batch, tokens, hidden], weights, with `transformed` constants c{j} and biases b{j} -> y, the block's output, and for
 * the j-th of the `observed` values max{j}, min{j} [channels], of the `counted` experts tokens{j} [].
 */
export function forwardProgram(plan: BlockPlan, options: ForwardOptions = {}): Graph {
  const g = new Builder(new Graph('forward'))
  const { block, activations } = plan
  const x = g.input('x', 'float32', staticShape(block.input))
  const weights = weightInputs(g, block)
  const changes = options.transformed ? changeInputs(g, plan) : undefined
  const values = new Map<Value, Value>()
  const y = emitBlock(g, block, x, weights, {
    changes,
    activations: options.quantized ? activations : undefined,
    values,
  })
  g.output(y, 'y')
  options.observed?.forEach((value, j) => {
    const rank = staticShape(value).length
    const reduce = (op: string) => g.op(op, [values.get(value)!, g.ints([...Array(rank - 1).keys()])], { keepdims: 0 })
    g.output(reduce('ReduceMax'), maximumName(j))
    g.output(reduce('ReduceMin'), minimumName(j))
  })
  options.counted?.forEach((expert, j) => g.output(emitTokenCount(g, expert, values), tokensName(j)))
  return g.graph
}

/** What the parameters make of the block's constants; without any, rounding alone. */
export function emitQuantized(
  g: Builder,
  plan: BlockPlan,
  weights: Weights,
  ranges: ReadonlyMap<Linear, EmittedRange>,
  parameters: ReadonlyMap<string, Value> | undefined,
): { readonly quantized: ReadonlyMap<Linear, FakeQuantized>; readonly changes: Changes | undefined } {
  const transformed = parameters && emitEquivalence(g, plan, weights, parameters)
  const quantized = emitClipped(g, plan, transformed?.weights ?? weights, ranges, parameters ?? new Map())
  return { quantized, changes: transformed?.changes }
}

/** The fake-quantized block: x -> y with weights and activations as they will be stored and computed. */
export function emitQuantizedBlock(
  g: Builder,
  plan: BlockPlan,
  x: Value,
  weights: Weights,
  ranges: ReadonlyMap<Linear, EmittedRange>,
  parameters: ReadonlyMap<string, Value> | undefined,
): Value {
  const { quantized, changes } = emitQuantized(g, plan, weights, ranges, parameters)
  const fake = new Map([...weights, ...[...quantized].map(([linear, { output }]) => [linear, output] as const)])
  return emitBlock(g, plan.block, x, fake, { changes, activations: plan.activations })
}

/** Element `index` of a run input with one for every step, however many; the rest of a program has static shapes. */
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
  const outside = emitRanges(outer, plan, weights)
  const rates = outer.initializer('learning_rates', tensorOf('float32', [vector.size], vector.learningRates()))
  const carried = [{ name: 'parameters', size: vector.size }, ...optimizer.state]
  const state = carried.map(({ name, size }) => outer.input(name, 'float32', [size]))

  const g = new Builder(new Graph('step'), outer.names)
  const iteration = g.input('iteration', 'int64', [])
  const condition = g.input('continue', 'bool', [])
  const [parameter, ...moments] = state.map((value, i) => g.input(value.name, 'float32', [carried[i]!.size]))
  const learned = vector.split(g, parameter!)
  const output = emitQuantizedBlock(g, plan, sample(g, x, iteration, shape), weights, outside, learned)
  const { loss, gradient } = meanSquaredError(g, output, sample(g, y, iteration, shape))
  const gradientOf = gradients(g, new Map([[output, gradient]]), [parameter!])
  const next = optimizer.step(g, {
    parameter: parameter!,
    gradient: gradientOf.get(parameter!)!,
    state: moments,
    step: g.shift(g.add(g.cast(iteration, 'float32'), done), 1),
    learningRate: g.mul(rates, sample(g, rate, iteration, [])),
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

/** A linear as it is stored, and what of a program is needed for it. */
export interface LinearFold {
  readonly linear: Linear
  readonly index: number
  readonly program: Graph
}

export interface FoldPrograms {
  readonly linears: readonly LinearFold[]
  /** The changed constants c{j} and biases b{j}, where anything was learned. */
  readonly constants: Graph | undefined
}

/**
 * What training ended with, as numbers to store, in programs that need no more memory than their own linear: weights and, when something
 * was learned, parameters [size] -> per quantized linear i: codes{i} uint8 [K, N], scale{i} float32 [groups, N], zero_point{i} uint8
 * [groups, N], and weight{i} float32 [K, N], the weight the stored numbers stand for.
 */
export function foldPrograms(plan: BlockPlan, vector: ParameterVector | undefined): FoldPrograms {
  const g = new Builder(new Graph('fold'))
  const weights = weightInputs(g, plan.block)
  const parameters = vector && vector.split(g, g.input('parameters', 'float32', [vector.size]))
  // Rounding alone transforms nothing: then every range is that of the stored weight.
  const ranges = parameters ? emitRanges(g, plan, weights) : new Map<Linear, EmittedRange>()
  const { quantized, changes } = emitQuantized(g, plan, weights, ranges, parameters)
  /** The program of what `write` puts out. */
  const part = (write: () => void): Graph => {
    g.graph.outputs = []
    write()
    return programOf(g.graph, g.graph.outputs)
  }
  const linears = plan.block.linears.flatMap((linear, index): LinearFold[] => {
    const fake = quantized.get(linear)
    if (!fake) return []
    const { codes, scale, zeroPoint, output } = fake
    const program = part(() => {
      g.output(g.cast(codes, 'uint8'), `codes${index}`)
      g.output(g.op('Identity', [scale]), `scale${index}`)
      g.output(g.cast(zeroPoint, 'uint8'), `zero_point${index}`)
      g.output(output, `weight${index}`)
    })
    return [{ linear, index, program }]
  })
  if (!changes || plan.changedSites.length + plan.addedBiases.length === 0) return { linears, constants: undefined }
  const constants = part(() => {
    plan.changedSites.forEach(({ site: { node, input } }, j) =>
      g.output(changes.constants.get(node)!.get(input)!, constantName(j)),
    )
    plan.addedBiases.forEach((linear, j) => g.output(changes.biases.get(linear)!, biasName(j)))
  })
  return { linears, constants }
}

/** What of a graph is needed for some of its values, which are its outputs then. */
function programOf(graph: Graph, outputs: readonly Value[]): Graph {
  const program = new Graph(graph.name)
  program.nodes = extract(graph, graph.inputs, outputs)
  const read = new Set<Value | undefined>([...outputs, ...program.nodes.flatMap(({ inputs }) => inputs)])
  program.inputs = graph.inputs.filter(value => read.has(value))
  program.initializers = graph.initializers.filter(value => read.has(value))
  program.outputs = [...outputs]
  return program
}
