/**
 * @file Sites of quantized activations: the inputs of linears, and the queries, keys and values of attention
 * (arXiv 2308.13137 section 4.1). Softmax outputs stay float.
 */

import { dependents } from '../../graph/dependencies.ts'
import type { Node, Value } from '../../graph/ir.ts'
import type { Refused } from '../../graph/refusal.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import { packedLayout, roundsInput } from '../../kernels/pack/matmul-nbits.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import type { Factors } from '../../kernels/kronecker.ts'
import type { SiteQuantizer } from '../terms/scheme.ts'
import type { Site } from './site.ts'

/** A value that is quantized for the nodes that read it. */
export interface ActivationSite {
  /** In the working copy. */
  readonly value: Value
  readonly quantizer: SiteQuantizer
  /**
   * 'graph': nodes of the exported graph quantize the value. 'kernel': MatMulNBits rounds it at accuracy_level 4, where it multiplies
   * (kernels/int8-blocks.ts), and the exported graph has no nodes for it.
   */
  readonly by: 'graph' | 'kernel'
  /**
   * Elements of the last axis that share a scale: all of a token's, those of one head, or of one block of MatMulNBits. With a fixed
   * range all numbers do.
   */
  readonly group: number
  readonly readers: readonly Site[]
  /** Sizes of the learned matrix that the value is multiplied by before it is quantized; absent: there is none. */
  readonly factors?: Factors | undefined
  /** Value of the user's graph, for queries, keys and values. Linears quantize their inputs by themselves. */
  readonly user: Value | undefined
}

/** Values read by the block's linears, each once. */
function linearSites({ linears }: Block, quantizer: SiteQuantizer): ActivationSite[] {
  const readers = new Map<Value, Site[]>()
  for (const { node } of linears) {
    const value = node.inputs[0]!
    readers.set(value, [...(readers.get(value) ?? []), { node, input: 0 }])
  }
  return [...readers].map(([value, sites]) => ({
    value,
    quantizer,
    by: 'graph',
    group: staticShape(value).at(-1)!,
    readers: sites,
    user: undefined,
  }))
}

/** Rounding in MatMulNBits at accuracy_level 4. */
const INT8: SiteQuantizer = { bits: 8, symmetric: true }

/**
 * Inputs of linears that become MatMulNBits nodes with accuracy_level 4. A value whose readers have blocks of different sizes is a
 * site for each size. Linears without an 8-bit kernel have none: they compute in float32.
 */
export function kernelSites(quantizers: ReadonlyMap<Linear, WeightQuantizer>): ActivationSite[] {
  const sites: (ActivationSite & { readonly readers: Site[] })[] = []
  for (const [{ node, inFeatures: K }, quantizer] of quantizers) {
    const layout = packedLayout({ K, ...quantizer })
    if (!roundsInput(layout)) continue
    const [value, group] = [node.inputs[0]!, layout.blockSize]
    const known = sites.find(site => site.value === value && site.group === group)
    if (known) known.readers.push({ node, input: 0 })
    else sites.push({ value, quantizer: INT8, by: 'kernel', group, readers: [{ node, input: 0 }], user: undefined })
  }
  return sites
}

/** Axis of `from` that becomes `axis` of `to` in a reshape; undefined where it does not keep its size and stride. */
function keptAxis(from: readonly number[], to: readonly number[], axis: number): number | undefined {
  const stride = elementCount(to.slice(axis + 1))
  const kept = from.findIndex((dim, i) => dim === to[axis] && elementCount(from.slice(i + 1)) === stride)
  return kept < 0 ? undefined : kept
}

/**
 * One step back through a node that moves or scales whole head vectors: its input, and the axis of the channels there.
 * Quantizing before such a node gives the same numbers, and costs less before heads are repeated or a cache is appended.
 */
function stepBack(value: Value, axis: number): { value: Value; axis: number } | undefined {
  const node = value.producer
  const [x, second] = node?.inputs ?? []
  if (!node || !x) return undefined
  const [from, to] = [staticShape(x), staticShape(value)]
  const at = (next: number | undefined) => (next === undefined ? undefined : { value: x, axis: next })
  switch (node.kind) {
    case 'Transpose':
      return at((node.ints('perm') ?? from.map((_, i) => from.length - 1 - i))[axis])
    case 'Reshape':
    case 'Unsqueeze':
    case 'Squeeze':
      return at(keptAxis(from, to, axis))
    case 'Expand':
      return at(axis - to.length + from.length)
    case 'Gather': {
      // Heads that are repeated; a choice among heads stays, or what is not chosen would be quantized too.
      const along = (node.int('axis', 0) + from.length) % from.length
      return from.length === to.length && along !== axis && to[along]! >= from[along]! ? at(axis) : undefined
    }
    case 'Mul':
    case 'Div':
      if (second?.tensor && elementCount(second.tensor.dims) === 1) return at(axis)
      if (node.kind === 'Mul' && x.tensor && elementCount(x.tensor.dims) === 1) return { value: second!, axis }
      return undefined
    default:
      return undefined
  }
}

/** The one value from which the user's fused node `origin` computes `value`; undefined when there are several. */
function enteringValue(value: Value, origin: Node, data: ReadonlySet<Value>): Value | undefined {
  const entering = new Set<Value>()
  const visit = (current: Value) => {
    if (current.producer?.origin !== origin) entering.add(current)
    else for (const input of current.producer.inputs) if (input && data.has(input)) visit(input)
  }
  visit(value)
  return entering.size === 1 ? [...entering][0] : undefined
}

/** User's values by what stands for them in the working copy; of several, the first to be computed. */
function firstUserValues(values: ReadonlyMap<Value, Value>): Map<Value, Value> {
  const first = new Map<Value, Value>()
  for (const [user, working] of values) if (user.producer && !first.has(working)) first.set(working, user)
  return first
}

/** Products of two activations, in order: scores, then what is read with them. */
function attentionProducts(block: Block, data: ReadonlySet<Value>): Node[] {
  return block.nodes.filter(node => node.kind === 'MatMul' && node.inputs.every(input => data.has(input!)))
}

/**
 * Sites of a block. Queries, keys and values are quantized as near to where they are computed as the user's graph shows them: after
 * the rotary embedding where it is there, before it where it is inside a fused attention node.
 * @param quantizer of all of them. @param values user's value -> value of the working copy (Analysis.values). @returns `refused`: operands of attention that stay float, where some do.
 */
export function findActivationSites(
  block: Block,
  quantizer: SiteQuantizer,
  values: ReadonlyMap<Value, Value>,
): { readonly sites: readonly ActivationSite[]; readonly refused: Refused | undefined } {
  const sites = linearSites(block, quantizer)
  const data = dependents(block.nodes, [block.input])
  const products = attentionProducts(block, data)
  const [scores, mix] = products
  if (products.length !== 2 || !scores || !mix) {
    const reason = `${products.length} products of activations, not 2`
    return { sites, refused: { at: 'queries, keys and values', reason } }
  }
  const userOf = firstUserValues(values)
  const operands = [
    { name: 'queries', value: scores.inputs[0]!, axis: -1 },
    { name: 'keys', value: scores.inputs[1]!, axis: -2 },
    { name: 'values', value: mix.inputs[1]!, axis: -1 },
  ]
  const missing: string[] = []
  for (const { name, value, axis } of operands) {
    const site = attentionSite(value, axis, data, userOf)
    if (!site) missing.push(name)
    else if (!sites.some(known => known.value === site.value)) {
      const readers = block.nodes.flatMap(node =>
        node.inputs.flatMap((input, i) => (input === site.value ? [{ node, input: i }] : [])),
      )
      sites.push({ ...site, quantizer, by: 'graph', readers })
    }
  }
  const refused = missing.length === 0 ? undefined : { at: missing.join(', '), reason: 'the graph does not show them' }
  return { sites, refused }
}

/** The best site for an operand of attention whose channels are on `axis`. */
function attentionSite(
  operand: Value,
  axis: number,
  data: ReadonlySet<Value>,
  userOf: ReadonlyMap<Value, Value>,
): { value: Value; group: number; user: Value } | undefined {
  const shape = staticShape(operand)
  const group = shape.at(axis)!
  let best: { value: Value; group: number; user: Value } | undefined
  const consider = (value: Value) => {
    const user = userOf.get(value)
    if (user && staticShape(value).at(-1)! % group === 0) best = { value, group, user }
  }
  let current: { value: Value; axis: number } | undefined = { value: operand, axis: shape.length + axis }
  let last = operand
  for (; current && data.has(current.value); current = stepBack(current.value, current.axis)) {
    last = current.value
    if (current.axis === staticShape(last).length - 1) consider(last)
  }
  if (best) return best
  const entering = last.producer?.origin && enteringValue(last, last.producer.origin, data)
  if (entering) consider(entering)
  return best
}
