/** @file Finds the linear layers among a block's nodes: products of an activation with a stored 2-D weight. */

import type { Node, Value } from '../../graph/ir.ts'
import { isRefused, type Refused, separate } from '../../graph/refusal.ts'
import { staticShape } from '../../graph/shape.ts'
import { findStoredWeight } from '../../graph/stored-weight.ts'
import { findRouters } from './routers.ts'

/** A product x [.., K] * w [K, N] of the working copy, and where its weight is stored. */
export interface Linear {
  /** For people: "layers.0.self_attn.q_proj", or the weight's name where nodes have none. */
  readonly name: string
  /** The MatMul in the working copy. */
  readonly node: Node
  /** The MatMul or Gemm in the user's graph. */
  readonly origin: Node
  /** The stored weight, an initializer of the working copy. */
  readonly weight: Value
  /** Stored as [N, K]. */
  readonly transposed: boolean
  readonly inFeatures: number
  readonly outFeatures: number
}

/** Number of weights. */
export const weightCount = (linears: readonly Pick<Linear, 'inFeatures' | 'outFeatures'>[]): number =>
  linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures, 0)

/** "/model/layers.0/self_attn/q_proj/MatMul" -> "layers.0.self_attn.q_proj". */
export function labelOf(origin: Node, weight: Value): string {
  // One node of many weights: only those have names of their own.
  if (origin.kind === 'com.microsoft.MoE') return weight.name.replace(/^model\./, '')
  const parts = origin.name.split('/').filter(part => part !== '')
  if (parts.length < 2) return weight.name
  const named = /^(MatMul|Gemm|Gather)(_\w+)?$/.test(parts.at(-1)!) ? parts.slice(0, -1) : parts
  return (named[0] === 'model' ? named.slice(1) : named).join('.')
}

/** Ops of the user's graph whose weights an export replaces. */
const STORING_OPS: ReadonlySet<string> = new Set(['MatMul', 'Gemm', 'com.microsoft.MoE'])

/** Not a Gemm that does more than multiply and add: transA, alpha, beta (ONNX 13). */
export const isPlainProduct = (node: Node): boolean =>
  node.kind !== 'Gemm' || (node.int('transA', 0) === 0 && node.float('alpha', 1) === 1 && node.float('beta', 1) === 1)

/** The linear that the product `node` is; refused where its weight cannot be quantized. */
function linearOf(node: Node, data: ReadonlySet<Value>, routers: ReadonlySet<Node>): Linear | Refused<Node> {
  const refused = (reason: string): Refused<Node> => ({ at: node, reason })
  const [x, w] = node.inputs as [Value, Value]
  if (!data.has(x)) return refused('its weight is the first operand')
  const stored = findStoredWeight(w)
  const { origin } = node
  if (isRefused(stored)) return refused(`its weight is ${stored.reason}`)
  if (routers.has(node)) return refused('router: which experts a token is sent to depends on it')
  if (!origin) return refused('it is part of a fused operation')
  if (!STORING_OPS.has(origin.kind)) return refused(`its weight is inside ${origin.kind}`)
  if (!isPlainProduct(origin)) return refused('a Gemm with transA, alpha or beta cannot become MatMulNBits')
  const [inFeatures, outFeatures] = staticShape(w) as [number, number]
  const { weight, transposed } = stored
  return { name: labelOf(origin, weight), node, origin, weight, transposed, inFeatures, outFeatures }
}

/** Linears among `nodes`, and the products refused; `data` are the values that depend on the model's input. */
export function findLinears(
  nodes: readonly Node[],
  data: ReadonlySet<Value>,
): { linears: Linear[]; skipped: Refused<Node>[] } {
  const routers = findRouters(nodes)
  const found = nodes
    .filter(node => node.kind === 'MatMul' && node.inputs.some(input => !data.has(input!)))
    .map(node => linearOf(node, data, routers))
  const { results, refused } = separate(found)
  return { linears: results, skipped: refused }
}
