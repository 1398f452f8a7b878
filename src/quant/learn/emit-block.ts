/** @file Writes a block into a program: the same nodes, with the weights, constants and quantized activations of the program. */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { internalError } from '../../errors.ts'
import { staticShape } from '../../graph/shape.ts'
import { readBytes } from '../../graph/tensor.ts'
import { emitInt8Blocks } from '../../kernels/int8-blocks.ts'
import { emitKroneckerProduct } from '../../kernels/kronecker.ts'
import { emitFakeQuantizeRange } from '../../kernels/static-range.ts'
import { emitFakeQuantizeTokens } from '../../kernels/tokens.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { SiteConstants } from '../plan/site-constants.ts'

/** Weight of each linear, [K, N]. */
export type Weights = ReadonlyMap<Linear, Value>

/** Replacements for constants of the block, besides the weights of its linears. */
export interface Changes {
  /** Gains and biases: node -> input -> value. */
  readonly constants: ReadonlyMap<Node, ReadonlyMap<number, Value>>
  /** [N], added to the result of a linear. */
  readonly biases: ReadonlyMap<Linear, Value>
}

export interface EmitOptions {
  readonly changes?: Changes | undefined
  /** Values to transform and quantize; none when absent. */
  readonly activationSites?: readonly ActivationSite[] | undefined
  /** False transforms them only. Default: true. */
  readonly quantized?: boolean | undefined
  /** Learned numbers of the sites, each. */
  readonly siteConstants?: ReadonlyMap<ActivationSite, SiteConstants<Value>> | undefined
  /** Filled with the program's value for every value of the block, for programs that read some of them. */
  readonly values?: Map<Value, Value>
  /** Filled with the program's value of every site: transformed, and not yet quantized. */
  readonly siteValues?: Map<ActivationSite, Value>
  /** Filled with what each linear reads: transformed and quantized where there is a site. */
  readonly reads?: Map<Linear, Value>
}

/** x times the matrix of a site; x itself where it has none. */
function emitTransformed(
  g: Builder,
  x: Value,
  { factors }: ActivationSite,
  { left, right }: SiteConstants<Value> = {},
): Value {
  return factors && left && right ? emitKroneckerProduct(g, x, { left, right }, factors, staticShape(x).length) : x
}

/** x, transformed, as the readers of `site` see it. */
function emitSite(
  g: Builder,
  x: Value,
  { by, quantizer, group, value: { name } }: ActivationSite,
  { scale, zeroPoint, minRatio, maxRatio }: SiteConstants<Value> = {},
): Value {
  if (by === 'kernel') return emitInt8Blocks(g, x, group)
  if (quantizer.kind !== 'static')
    return emitFakeQuantizeTokens(g, x, quantizer, group, minRatio && maxRatio && { min: minRatio, max: maxRatio })
  if (!scale || !zeroPoint) throw internalError(`the range of "${name}" is not known`)
  return emitFakeQuantizeRange(g, x, { scale, zeroPoint }, quantizer)
}

/**
 * Appends the block to `g`, reading hidden states `x` and the canonical [K, N] `weights`, and returns its output.
 * Every other constant the block reads (gains, biases, masks, rotary tables) is copied into the program unless `changes` has it.
 */
export function emitBlock(
  g: Builder,
  block: Block,
  x: Value,
  weights: Weights,
  {
    changes,
    activationSites = [],
    quantized = true,
    siteConstants,
    values = new Map(),
    siteValues,
    reads,
  }: EmitOptions = {},
): Value {
  values.set(block.input, x)
  const linearOf = new Map<Node, Linear>(block.linears.map(linear => [linear.node, linear]))
  const siteAt = new Map<Node, Map<number, ActivationSite>>()
  for (const site of activationSites)
    for (const { node, input } of site.readers)
      siteAt.set(node, (siteAt.get(node) ?? new Map<number, ActivationSite>()).set(input, site))
  const emitted = new Map<ActivationSite, Value>()

  const lookup = (value: Value): Value => {
    const known = values.get(value)
    if (known) return known
    if (value.producer) copy(value.producer)
    else {
      const { dtype, dims } = value.tensor!
      values.set(value, g.initializer(value.name, { dtype, dims, data: readBytes(value.tensor!) }))
    }
    return values.get(value)!
  }
  /** Input of `node` in the program: quantized where there is a site, once for all its readers. */
  const read = (node: Node, input: number): Value | undefined => {
    const original = node.inputs[input]
    const changed = changes?.constants.get(node)?.get(input)
    if (changed || !original) return changed
    const site = siteAt.get(node)?.get(input)
    if (!site) return lookup(original)
    if (!emitted.has(site)) {
      const x = emitTransformed(g, lookup(original), site, siteConstants?.get(site))
      siteValues?.set(site, x)
      emitted.set(site, quantized ? emitSite(g, x, site, siteConstants?.get(site)) : x)
    }
    return emitted.get(site)!
  }
  const copy = (node: Node): void => {
    const linear = linearOf.get(node)
    const weight = linear && weights.get(linear)
    const inputs = weight ? [read(node, 0), weight] : node.inputs.map((_, i) => read(node, i))
    if (linear) reads?.set(linear, inputs[0]!)
    const outputs = g.copy(node, inputs)
    const bias = linear && changes?.biases.get(linear)
    node.outputs.forEach((output, i) => {
      if (output) values.set(output, bias ? g.add(outputs[i]!, bias) : outputs[i]!)
    })
  }
  for (const node of block.nodes) copy(node)
  return values.get(block.output)!
}
