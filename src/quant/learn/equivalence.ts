/**
 * @file Learnable equivalent transformation (LET, arXiv 2308.13137 section 3.3): scales and shifts that leave the block's function as
 * it is and make its numbers easier to quantize.
 *
 * A mapping (mappings.ts) divides some constants by its scales and multiplies others by them. A shift is subtracted from the channels
 * before the division, and the linears that read them add shift * W. So every constant becomes (c + terms) * times / over.
 */

import { customVjp } from '../../autodiff/custom-vjp.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount, readBytes, tensorOf } from '../../graph/tensor.ts'
import { emitScaledWeight } from '../../kernels/scale-weight.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { type End, linearsOf, type Mapping, rowsOf } from '../plan/mappings/mapping.ts'
import { sameSite, type Site } from '../plan/site.ts'
import type { Weights } from './emit-block.ts'
import { type InitialEquivalence, initialEquivalence, observedValues } from './initial-equivalence.ts'
import type { Learnable, LearningStart } from './learnable.ts'
import type { Learned } from './learned.ts'
import type { Parameter } from './parameters.ts'

/** Scales stay above this (as in the reference implementation): a channel must not vanish on one side and explode on the other. */
const LEAST_SCALE = 1e-2

const parameterName = (index: number, { name }: Mapping, part: 'scale' | 'shift'): string => `${index}:${name}:${part}`

/** Share of the clipping's learning rate, unless the run says otherwise (arXiv 2308.13137 section 4.1: 5e-3 and 1e-2). */
const RATE_SHARE = 0.5

/** Exponent of the first scales (SmoothQuant's alpha), unless the run says otherwise. */
const ALPHA = 0.5

/** Scales of a transformation. */
export interface Scales {
  readonly mapping: Mapping
  readonly scales: Float32Array
}

/** Scales of every mapping, and shifts where it has them. A mapping between frozen linears alone changes nothing and stays so. */
function parameters(plan: BlockPlan, { method, frozen, ranges, weights }: LearningStart): Parameter[] {
  const { learningRate, letLearningRate = learningRate * RATE_SHARE, alpha = ALPHA } = method
  let known: readonly InitialEquivalence[] | undefined
  const initialOf = (i: number) => (known ??= initialEquivalence(plan, ranges, weights, alpha))[i]!
  return plan.mappings.flatMap((mapping, i) => {
    const linears = linearsOf(mapping)
    const isFrozen = linears.length > 0 && linears.every(linear => frozen.has(linear))
    return (mapping.shift ? (['scale', 'shift'] as const) : (['scale'] as const)).map(part => ({
      name: parameterName(i, mapping, part),
      shape: [mapping.size],
      initial: isFrozen ? { scale: 1, shift: 0 }[part] : () => initialOf(i)[part],
      learningRate: isFrozen ? 0 : letLearningRate,
    }))
  })
}

/** max(scale, LEAST_SCALE), with the gradient of the scale itself: a scale at the bound can grow again. */
function bounded(g: Builder, scale: Value): Value {
  const value = g.op('Max', [scale, g.scalar(LEAST_SCALE, scale.dtype)])
  customVjp(value.producer!, (_g, _node, [dy]) => [dy])
  return value
}

/** values [size] -> one value per element of an end; `none` for elements without a scale. */
function spread(g: Builder, values: Value, indices: Int32Array, none: number): Value {
  const [size] = staticShape(values) as [number]
  if (indices.length === size && indices.every((index, i) => index === i)) return values
  const source = indices.includes(-1)
    ? g.concat([values, g.initializer('none', tensorOf('float32', [1], Float32Array.of(none)))], 0)
    : values
  const channels = BigInt64Array.from(indices, index => BigInt(index < 0 ? size : index))
  return g.op('Gather', [source, g.initializer('channels', tensorOf('int64', [channels.length], channels))], {
    axis: 0,
  })
}

/** Changes to one constant c, not yet written: (c + terms) * times / over. */
class Pending {
  readonly terms: Value[] = []
  readonly times: Value[] = []
  readonly over: Value[] = []

  /** times / over; undefined for none of either. */
  factor(g: Builder): Value | undefined {
    const product = (values: readonly Value[]) => values.reduce((a, b) => g.mul(a, b))
    if (this.over.length === 0) return this.times.length === 0 ? undefined : product(this.times)
    const over = product(this.over)
    return this.times.length === 0 ? g.op('Reciprocal', [over]) : g.div(product(this.times), over)
  }

  /** (value + terms) * times / over; `value` may be absent, which is zero. */
  applied(g: Builder, value: Value | undefined): Value {
    const summands = value ? [value, ...this.terms] : this.terms
    const sum = summands.reduce((a, b) => g.add(a, b))
    const factor = this.factor(g)
    return factor ? g.mul(sum, factor) : sum
  }
}

/** Changes that all mappings of a block make to its constants. */
class Ledger {
  readonly rows = new Map<Linear, Pending>()
  readonly columns = new Map<Linear, Pending>()
  readonly sites = new Map<Node, Map<number, Pending>>()

  of(end: End): Pending {
    if (end.kind === 'vector') return this.at(end.site)
    const side = end.kind === 'rows' ? this.rows : this.columns
    if (!side.has(end.linear)) side.set(end.linear, new Pending())
    return side.get(end.linear)!
  }

  at({ node, input }: Site): Pending {
    if (!this.sites.has(node)) this.sites.set(node, new Map())
    const inputs = this.sites.get(node)!
    if (!inputs.has(input)) inputs.set(input, new Pending())
    return inputs.get(input)!
  }
}

/** Enters one mapping; `weights` are those before any mapping. */
function enter(
  g: Builder,
  ledger: Ledger,
  { mapping, scale, shift }: { readonly mapping: Mapping; readonly scale: Value; readonly shift: Value | undefined },
  weights: Weights,
  biases: ReadonlyMap<Linear, Site>,
): void {
  for (const end of mapping.divided) ledger.of(end).over.push(spread(g, scale, end.scales, 1))
  for (const end of mapping.multiplied) ledger.of(end).times.push(spread(g, scale, end.scales, 1))
  if (!shift) return
  for (const end of mapping.divided) {
    const shifted = end.kind === 'vector' && sameSite(end.site, mapping.shift!)
    if (shifted) ledger.of(end).terms.push(g.neg(spread(g, shift, end.scales, 0)))
  }
  for (const { linear, scales } of rowsOf(mapping)) {
    const row = g.reshape(spread(g, shift, scales, 0), [1, linear.inFeatures])
    const given = g.reshape(g.matMul(row, weights.get(linear)!), [linear.outFeatures])
    const site = biases.get(linear)
    // A linear without a bias gets one: its terms are kept with its columns.
    const pending = site ? ledger.at(site) : ledger.of({ kind: 'columns', linear, scales })
    pending.terms.push(given)
  }
}

/** Applies every mapping whose parameters are among the values. */
const apply: Learnable['apply'] = (g, plan, before, values) => {
  const ledger = new Ledger()
  let isEmpty = true
  plan.mappings.forEach((mapping, i) => {
    const scale = values.get(parameterName(i, mapping, 'scale'))
    if (!scale) return
    const shift = values.get(parameterName(i, mapping, 'shift'))
    enter(g, ledger, { mapping, scale: bounded(g, scale), shift }, before.weights, plan.biases)
    isEmpty = false
  })
  if (isEmpty) return before
  const weights = [...before.weights].map(([linear, weight]): [Linear, Value] => [
    linear,
    emitScaledWeight(g, weight, ledger.rows.get(linear)?.factor(g), ledger.columns.get(linear)?.factor(g)),
  ])
  const constants = new Map([...before.constants].map(([node, inputs]) => [node, new Map(inputs)]))
  for (const { site } of plan.changedSites) {
    const { node, input } = site
    const original = node.inputs[input]!
    const { dims } = original.tensor!
    const value = before.constants.get(node)?.get(input)
    const flat = value
      ? g.reshape(value, [elementCount(dims)])
      : g.initializer(original.name, {
          dtype: 'float32',
          dims: [elementCount(dims)],
          data: readBytes(original.tensor!),
        })
    if (!constants.has(node)) constants.set(node, new Map())
    constants.get(node)!.set(input, g.reshape(ledger.at(site).applied(g, flat), dims))
  }
  const biased = new Set([...before.biases.keys(), ...plan.addedBiases])
  const biases = [...biased].map((linear): [Linear, Value] => {
    const bias = before.biases.get(linear)
    return [linear, ledger.columns.get(linear)?.applied(g, bias) ?? bias!]
  })
  return { ...before, weights: new Map(weights), constants, biases: new Map(biases) }
}

/** Scales of the transformations among the parameters of a block, as they are applied. */
export const scalesIn = ({ mappings }: Pick<BlockPlan, 'mappings'>, { vector, parameters }: Learned): Scales[] =>
  mappings.flatMap((mapping, i) => {
    const name = parameterName(i, mapping, 'scale')
    if (!vector.has(name)) return []
    return [{ mapping, scales: vector.view(parameters, name).map(scale => Math.max(scale, LEAST_SCALE)) }]
  })

/** True for a block whose parameters have transformations among them. */
export const isTransformed = (
  { mappings }: Pick<BlockPlan, 'mappings'>,
  parameters: readonly { readonly name: string }[],
): boolean => mappings.some((mapping, i) => parameters.some(({ name }) => name === parameterName(i, mapping, 'scale')))

export const equivalence: Learnable = {
  name: 'let',
  enabled: method => method.let !== false,
  observes: observedValues,
  parameters,
  apply,
}
