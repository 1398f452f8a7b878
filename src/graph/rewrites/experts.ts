/** @file A mixture of experts in one node (com.microsoft MoE) as primitives: every expert on every token, times the token's weight for it. */

import type { Builder } from '../builder.ts'
import type { Node, Value } from '../ir.ts'
import { staticShape } from '../shape.ts'
import { slicesOf, type Tensor } from '../tensor.ts'
import { swish } from './activations.ts'
import { declined, required, type Rewrite } from './rewrite.ts'

type Inputs = readonly (Value | undefined)[]

/** "experts.down_proj.weight" -> "experts.3.down_proj", for people. */
function expertName(name: string, expert: number): string {
  const parts = name.split('.')
  if (parts.length > 1 && parts.at(-1) === 'weight') parts.pop()
  return [...parts.slice(0, -1), expert, parts.at(-1)!].join('.')
}

/** Stored weights [E, out, in] as those of each expert, [in, out]: each a part of what is stored. */
function expertWeights(g: Builder, node: Node, value: Value): Value[] {
  let stored = value
  while (stored.producer?.kind === 'Cast') stored = stored.producer.inputs[0]!
  const { tensor, name } = stored
  if (tensor?.dims.length !== 3)
    throw declined(node, `"${value.name}", which is not a stored weight of three dimensions,`)
  return slicesOf(tensor).map((slice: Tensor, e) => {
    const weight = g.initializer(expertName(name, e), slice)
    return g.transpose(slice.dtype === 'float32' ? weight : g.cast(weight, 'float32'), [1, 0])
  })
}

/**
 * Router logits [tokens, E] to every expert's weight per token, [tokens, 1] each, 0 where it is not chosen: the softmax over the k
 * greatest (normalize_routing_weights), or those of the softmax over all.
 */
function routingWeights(g: Builder, node: Node, logits: Value): Value[] {
  if (node.int('use_sparse_mixer', 0)) throw declined(node, 'use_sparse_mixer')
  const [, experts] = staticShape(logits) as [number, number]
  const k = node.int('k', 1)
  const normalized = node.int('normalize_routing_weights', 0) === 1
  const softmax = (x: Value) => g.op('Softmax', [x], { axis: -1 })
  const from = normalized ? logits : softmax(logits)
  const [greatest, chosen] = g.ops('TopK', [from, g.ints([k])], 2, { axis: -1 })
  const weights = normalized ? softmax(greatest!) : greatest!
  const places = g.cast(g.op('OneHot', [chosen, g.scalar(experts, 'int64'), g.ints([0, 1])], { axis: -1 }), 'float32')
  const perPlace = g.op('Unsqueeze', [weights, g.ints([2])])
  const perExpert = g.reduceSum(g.mul(places, perPlace), [1], false)
  return g.split(perExpert, Array<number>(experts).fill(1), 1)
}

/** g * sigmoid(alpha * g) * (l + beta) of g = min(even, limit), l = clip(odd, -limit, limit) (swiglu_fusion 1: interleaved). */
function swiglu(g: Builder, node: Node, x: Value): Value {
  if (node.int('swiglu_fusion', 0) !== 1) throw declined(node, `swiglu_fusion = ${node.int('swiglu_fusion', 0)}`)
  const width = staticShape(x).at(-1)!
  const limit = node.float('swiglu_limit', Infinity)
  const [alpha, beta] = [node.float('activation_alpha', 1), node.float('activation_beta', 0)]
  const part = (first: number) => g.slice(x, staticShape(x).length - 1, first, width, 2)
  const clip = (value: Value, low: number | undefined) =>
    Number.isFinite(limit)
      ? g.op('Clip', [value, low === undefined ? undefined : g.scalar(low), g.scalar(limit)])
      : value
  const gate = swish(g, clip(part(0), undefined), alpha)
  const linear = clip(part(1), -limit)
  return g.mul(gate, beta === 0 ? linear : g.shift(linear, beta))
}

function activated(g: Builder, node: Node, x: Value): Value {
  const type = node.string('activation_type', 'relu')
  if (type === 'relu') return g.op('Relu', [x])
  if (type === 'silu') return swish(g, x, 1)
  if (type === 'identity') return x
  if (type === 'swiglu') return swiglu(g, node, x)
  throw declined(node, `activation_type = "${type}"`)
}

/** com.microsoft MoE (opset 1): x [.., H], router logits [tokens, E], fc1 [E, R, H], fc2 [E, H, I], biases [E, R] and [E, H]. */
const moe: Rewrite = (g, node, inputs: Inputs) => {
  if (inputs[6]) throw declined(node, 'a third weight (fc3)')
  const x = required(node, inputs, 0, 'input')
  const hidden = staticShape(x).at(-1)!
  const tokens = g.reshape(x, [staticShape(x).reduce((a, b) => a * b, 1) / hidden, hidden])
  const weights = routingWeights(g, node, required(node, inputs, 1, 'router_probs'))
  const fc1 = expertWeights(g, node, required(node, inputs, 2, 'fc1_experts_weights'))
  const fc2 = expertWeights(g, node, required(node, inputs, 4, 'fc2_experts_weights'))
  const linear = (from: Value, weight: Value, bias: Value | undefined, e: number) => {
    const product = g.matMul(from, weight)
    return bias ? g.add(product, g.op('Gather', [bias, g.scalar(e, 'int64')], { axis: 0 })) : product
  }
  const results = weights.map((weight, e) => {
    const inner = activated(g, node, linear(tokens, fc1[e]!, inputs[3], e))
    return g.mul(linear(inner, fc2[e]!, inputs[5], e), weight)
  })
  const sum = results.reduce((a, b) => g.add(a, b))
  return [g.reshape(sum, staticShape(x))]
}

export const EXPERT_REWRITES: Readonly<Record<string, Rewrite>> = { 'com.microsoft.MoE': moe }
