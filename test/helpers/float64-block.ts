/**
 * @file A block as a float64 program whose constants are plain arrays, and mappings applied to those arrays. Written from the
 * definition in src/quant/plan/mappings/mappings.ts alone, to check the mappings that were found. Shares no code with
 * src/quant/learn/equivalence.ts.
 */

import { Random } from '../../src/calibration/rng.ts'
import { Builder } from '../../src/graph/builder.ts'
import { isFloat } from '../../src/graph/dtype.ts'
import { Graph, type Node, type Value } from '../../src/graph/ir.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { elementCount, readBytes, readElements, tensorOf } from '../../src/graph/tensor.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { runGraph } from '../../src/kernels/session.ts'
import type { Block } from '../../src/quant/find/blocks.ts'
import type { Linear } from '../../src/quant/find/linears.ts'
import { biasSite } from '../../src/quant/plan/mappings/mappings.ts'
import { type End, type Mapping } from '../../src/quant/plan/mappings/mapping.ts'
import { type Site } from '../../src/quant/plan/site.ts'

/** Constants that mappings may change. */
export interface Constants {
  /** [K, N], row-major. */
  readonly weights: Map<Linear, Float64Array>
  readonly sites: Map<Node, Map<number, Float64Array>>
  /** Added to the product of a linear that has no bias of its own. */
  readonly added: Map<Linear, Float64Array>
}

export interface Numbers {
  readonly scale: Float64Array
  readonly shift: Float64Array
}

function canonicalWeight({ weight, transposed, inFeatures, outFeatures }: Linear): Float64Array {
  const stored = Float64Array.from(readFloats(weight.tensor!))
  if (!transposed) return stored
  return stored.map((_, i) => stored[(i % outFeatures) * inFeatures + Math.floor(i / outFeatures)]!)
}

/** The vector at a site, read on first use. */
function vectorAt({ sites }: Constants, { node, input }: Site): Float64Array {
  const inputs = sites.get(node) ?? new Map<number, Float64Array>()
  sites.set(node, inputs)
  const vector = inputs.get(input) ?? Float64Array.from(readFloats(node.inputs[input]!.tensor!))
  inputs.set(input, vector)
  return vector
}

/**
 * Constants of a block. Gains and biases that mappings touch are moved at random. In untrained models they are all ones and zeros,
 * which many wrong mappings would leave as they are.
 */
export function constantsOf(block: Block, mappings: readonly Mapping[], seed: number): Constants {
  const constants: Constants = {
    weights: new Map(block.linears.map(linear => [linear, canonicalWeight(linear)])),
    sites: new Map(),
    added: new Map(),
  }
  const random = new Random(seed)
  const ends = mappings.flatMap(({ divided, multiplied }) => [...divided, ...multiplied])
  for (const site of new Set(ends.flatMap(end => (end.kind === 'vector' ? [end.site] : [])))) {
    const vector = vectorAt(constants, site)
    for (const i of vector.keys()) vector[i]! += random.next() - 0.5
  }
  return constants
}

export function copyOf({ weights, sites, added }: Constants): Constants {
  return {
    weights: new Map([...weights].map(([linear, weight]) => [linear, weight.slice()])),
    sites: new Map(
      [...sites].map(([node, inputs]) => [node, new Map([...inputs].map(([i, vector]) => [i, vector.slice()]))]),
    ),
    added: new Map([...added].map(([linear, bias]) => [linear, bias.slice()])),
  }
}

/** Scales in [0.5, 2] and shifts in [-1, 1]. */
export function randomNumbers({ size }: Mapping, random: Random): Numbers {
  return {
    scale: Float64Array.from({ length: size }, () => 2 ** (2 * random.next() - 1)),
    shift: Float64Array.from({ length: size }, () => 2 * random.next() - 1),
  }
}

/** Multiplies the elements of an end by factor(scale). */
function scaleEnd(constants: Constants, end: End, factor: (scale: number) => number, scale: Float64Array): void {
  const factors = Float64Array.from(end.scales, index => (index < 0 ? 1 : factor(scale[index]!)))
  if (end.kind === 'vector') {
    const vector = vectorAt(constants, end.site)
    for (const i of vector.keys()) vector[i]! *= factors[i]!
    return
  }
  const weight = constants.weights.get(end.linear)!
  const { outFeatures } = end.linear
  const rows = end.kind === 'rows'
  for (const i of weight.keys()) weight[i]! *= factors[rows ? Math.floor(i / outFeatures) : i % outFeatures]!
  const added = constants.added.get(end.linear)
  if (added && !rows) for (const i of added.keys()) added[i]! *= factors[i]!
}

/** shift @ W is added to what the linear computes; its weight is not scaled yet. */
function compensate(constants: Constants, block: Block, linear: Linear, scales: Int32Array, shift: Float64Array): void {
  const site = biasSite(linear, block)
  if (!site && !constants.added.has(linear)) constants.added.set(linear, new Float64Array(linear.outFeatures))
  const bias = site ? vectorAt(constants, site) : constants.added.get(linear)!
  const weight = constants.weights.get(linear)!
  scales.forEach((index, row) => {
    if (index < 0) return
    for (const column of bias.keys()) bias[column]! += shift[index]! * weight[row * linear.outFeatures + column]!
  })
}

/** Applies a mapping to `constants`, or with `half` only the division. */
export function applyMapping(
  constants: Constants,
  block: Block,
  mapping: Mapping,
  numbers: Numbers,
  half = false,
): void {
  const { scale, shift } = numbers
  if (mapping.shift && !half) {
    const { node, input } = mapping.shift
    const bias = vectorAt(constants, mapping.shift)
    const end = mapping.divided.find(
      end => end.kind === 'vector' && end.site.node === node && end.site.input === input,
    )!
    end.scales.forEach((index, i) => {
      if (index >= 0) bias[i]! -= shift[index]!
    })
    for (const reader of mapping.multiplied)
      if (reader.kind === 'rows') compensate(constants, block, reader.linear, reader.scales, shift)
  }
  for (const end of mapping.divided) scaleEnd(constants, end, s => 1 / s, scale)
  if (!half) for (const end of mapping.multiplied) scaleEnd(constants, end, s => s, scale)
}

/**
 * The block as a float64 program that gives `wanted`. onnxruntime has no float64 Erf, so Tanh stands for it. Two programs can be
 * compared with either.
 */
function float64Program(block: Block, constants: Constants, wanted: readonly Value[]): Graph {
  const g = new Builder(new Graph('float64'))
  const values = new Map<Value, Value>([[block.input, g.input('x', 'float64', staticShape(block.input))]])
  const linears = new Map(block.linears.map(linear => [linear.node, linear]))
  const initializer = (value: Value, numbers: ArrayLike<number>) =>
    g.initializer(value.name, tensorOf('float64', staticShape(value), Float64Array.from(numbers)))
  const lookup = (value: Value): Value => {
    if (!values.has(value)) {
      const { tensor, producer } = value
      if (producer) copy(producer)
      else if (isFloat(tensor!.dtype)) values.set(value, initializer(value, readFloats(tensor!)))
      else values.set(value, g.initializer(value.name, { ...tensor!, data: readBytes(tensor!) }))
    }
    return values.get(value)!
  }
  const copy = (node: Node): void => {
    const linear = linears.get(node)
    if (linear) {
      const weight = tensorOf('float64', [linear.inFeatures, linear.outFeatures], constants.weights.get(linear)!)
      const product = g.matMul(lookup(node.inputs[0]!), g.initializer('w', weight))
      const added = constants.added.get(linear)
      values.set(
        node.outputs[0]!,
        added ? g.add(product, g.initializer('b', tensorOf('float64', [added.length], added))) : product,
      )
      return
    }
    const inputs = node.inputs.map((input, i) => {
      const changed = constants.sites.get(node)?.get(i)
      return changed ? initializer(input!, changed) : input && lookup(input)
    })
    if (node.kind === 'Cast') values.set(node.outputs[0]!, inputs[0]!)
    else if (node.kind === 'Erf') values.set(node.outputs[0]!, g.op('Tanh', inputs))
    else {
      const outputs = g.copy(node, inputs)
      node.outputs.forEach((output, i) => output && values.set(output, outputs[i]!))
    }
  }
  for (const node of block.nodes) copy(node)
  wanted.forEach((value, i) => g.output(g.op('Identity', [values.get(value)!]), `wanted${i}`))
  return g.graph
}

/** Values of the block for `x` with these constants: those in `wanted`, in order. */
async function valuesFloat64(
  block: Block,
  constants: Constants,
  x: Float64Array,
  wanted: readonly Value[],
): Promise<Float64Array[]> {
  const feeds = { x: tensorOf('float64', staticShape(block.input), x) }
  const program = float64Program(block, constants, wanted)
  const outputs = await runGraph(program, feeds, { optimization: 'disabled', threads: 1 })
  return wanted.map((_, i) => readElements(outputs[`wanted${i}`]!) as Float64Array)
}

/** Output of the block for `x` with these constants. */
export const runFloat64 = async (block: Block, constants: Constants, x: Float64Array): Promise<Float64Array> =>
  (await valuesFloat64(block, constants, x, [block.output]))[0]!

/** Largest difference, relative to the largest number. */
export function relativeError(got: Float64Array, expected: Float64Array): number {
  const worst = got.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0)
  return worst / expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
}

/**
 * Change of the block's output. `all`: every mapping is applied with random numbers (0 for an equivalence). `halves`: only the
 * division of one mapping is applied, one entry for each mapping (far from 0, if the mapping has an effect).
 */
export async function mappingErrors(
  block: Block,
  mappings: readonly Mapping[],
  seed = 1,
): Promise<{ all: number; halves: number[] }> {
  const random = new Random(seed)
  const x = Float64Array.from({ length: elementCount(staticShape(block.input)) }, () => 4 * random.next() - 2)
  const original = constantsOf(block, mappings, seed)
  const expected = await runFloat64(block, original, x)
  const transformed = copyOf(original)
  const halves: number[] = []
  for (const mapping of mappings) {
    const numbers = randomNumbers(mapping, random)
    applyMapping(transformed, block, mapping, numbers)
    const half = copyOf(original)
    applyMapping(half, block, mapping, numbers, true)
    halves.push(relativeError(await runFloat64(block, half, x), expected))
  }
  return { all: relativeError(await runFloat64(block, transformed, x), expected), halves }
}

/** Change of each of the given values inside the block when every mapping is applied with random numbers. */
export async function insideErrors(
  block: Block,
  mappings: readonly Mapping[],
  inside: readonly Value[],
  seed = 1,
): Promise<number[]> {
  const random = new Random(seed)
  const x = Float64Array.from({ length: elementCount(staticShape(block.input)) }, () => 4 * random.next() - 2)
  const original = constantsOf(block, mappings, seed)
  const transformed = copyOf(original)
  for (const mapping of mappings) applyMapping(transformed, block, mapping, randomNumbers(mapping, random))
  const expected = await valuesFloat64(block, original, x, inside)
  const got = await valuesFloat64(block, transformed, x, inside)
  return got.map((values, i) => relativeError(values, expected[i]!))
}
