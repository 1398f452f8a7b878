/** @file Change of a block's output, in float64, when all its transformations are applied with random scales and shifts. */

import { Builder } from '../../src/graph/builder.ts'
import { Graph } from '../../src/graph/ir.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { elementCount, readElements, tensorOf } from '../../src/graph/tensor.ts'
import { runGraph, type Tensors } from '../../src/kernels/session.ts'
import { affine } from '../../src/quant/learn/affine.ts'
import { emitBlock } from '../../src/quant/learn/emit-block.ts'
import { equivalence } from '../../src/quant/learn/equivalence.ts'
import { applyLearned } from '../../src/quant/learn/learnables.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import type { Method } from '../../src/quant/terms/options.ts'
import { ParameterVector } from '../../src/quant/learn/parameters.ts'
import type { BlockPlan } from '../../src/quant/plan/block-plan.ts'
import { readWeights } from '../../src/quant/learn/block-version.ts'
import { weightInput } from '../../src/quant/learn/ports.ts'
import { noStart } from './no-start.ts'
import { inDoublePrecision } from './double-precision.ts'
import { methodOf } from './method.ts'

/** Deterministic numbers from `low` to `high`. */
function random(seed: number): (low: number, high: number) => number {
  let state = seed
  return (low, high) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return low + (state / 2 ** 32) * (high - low)
  }
}

/** Elements of A in P = S exp(A): a matrix [32, 32] of such numbers has a norm of 2, as learned ones have. */
const MOST_GENERATOR = 0.3

const METHOD: Method = methodOf({
  scheme: parseScheme('w4a4'),
  lwc: false,
  epochs: 0,
  learningRate: 0,
  schedule: 'constant',
  session: {},
})

/** Scales, shifts and matrices drawn at random, as a parameter vector. */
function randomParameters(plan: BlockPlan, draw: (low: number, high: number) => number): ParameterVector {
  const start = noStart(METHOD)
  const parameters = [...equivalence.parameters(plan, start), ...affine.parameters(plan, start)].map(parameter => {
    const most = parameter.shape.length === 2 ? MOST_GENERATOR : 0.5
    const [low, high] = parameter.name.endsWith(':scale') ? [0.5, 2] : [-most, most]
    if (parameter.name.endsWith(':spread')) return { ...parameter, initial: 1 }
    const values = Float32Array.from({ length: elementCount(parameter.shape) }, () => draw(low!, high!))
    return { ...parameter, initial: () => values }
  })
  return new ParameterVector(parameters)
}

/** The block's weights [K, N] and changed constants, in the plan's order, after a random transformation in float32. */
export async function randomlyTransformed(
  plan: BlockPlan,
  seed = 1,
): Promise<{ readonly weights: readonly Float32Array[]; readonly sites: readonly Float32Array[] }> {
  const { block, changedSites } = plan
  const vector = randomParameters(plan, random(seed))
  const g = new Builder(new Graph('transformed'))
  const inputs = block.linears.map((linear, i) =>
    g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
  )
  const weights = new Map(block.linears.map((linear, i) => [linear, inputs[i]!]))
  const result = applyLearned(g, plan, weights, vector.split(g, g.input('parameters', 'float32', [vector.size])))
  block.linears.forEach((linear, i) => g.output(g.op('Identity', [result.weights.get(linear)!]), `weight${i}`))
  changedSites.forEach(({ site }, j) => g.output(result.constants.get(site.node)!.get(site.input)!, `site${j}`))
  const feeds = { ...readWeights(block), parameters: tensorOf('float32', [vector.size], vector.initial()) }
  const outputs = await runGraph(g.graph, feeds)
  const floats = (name: string) => readElements(outputs[name]!) as Float32Array
  return {
    weights: block.linears.map((_, i) => floats(`weight${i}`)),
    sites: changedSites.map((_, j) => floats(`site${j}`)),
  }
}

/** Largest difference between the outputs of the original and the transformed block, relative to the largest output. */
export async function equivalenceError(plan: BlockPlan, seed = 1): Promise<number> {
  const { block } = plan
  const draw = random(seed)
  const vector = randomParameters(plan, draw)
  const g = new Builder(new Graph('equivalence'))
  const x = g.input('x', 'float32', staticShape(block.input))
  const weights = new Map(
    block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
  const transformed = applyLearned(g, plan, weights, vector.split(g, g.input('parameters', 'float32', [vector.size])))
  g.output(emitBlock(g, block, x, weights), 'original')
  const { siteConstants } = transformed
  const sites = { activationSites: plan.activationSites, quantized: false, siteConstants }
  g.output(emitBlock(g, block, x, transformed.weights, { changes: transformed, ...sites }), 'transformed')
  const shape = staticShape(block.input)
  const double = (dims: readonly number[], values: Iterable<number>) =>
    tensorOf('float64', dims, Float64Array.from(values))
  const feeds: Tensors = {
    x: double(
      shape,
      Array.from({ length: elementCount(shape) }, () => draw(-1, 1)),
    ),
    parameters: double([vector.size], vector.initial()),
  }
  for (const [name, tensor] of Object.entries(readWeights(block)))
    feeds[name] = double(tensor.dims, readElements(tensor) as Float32Array)
  const outputs = await runGraph(inDoublePrecision(g.graph), feeds, { optimization: 'disabled' })
  const [before, after] = ['original', 'transformed'].map(name => readElements(outputs[name]!) as Float64Array)
  const difference = Math.max(...before!.map((value, i) => Math.abs(value - after![i]!)))
  return difference / Math.max(...before!.map(Math.abs))
}
