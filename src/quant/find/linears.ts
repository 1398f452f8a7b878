/** @file Finds the linear layers among a block's nodes: products of an activation with a stored 2-D weight. */

import type { Node, Value } from '../../graph/ir.ts'
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

export interface SkippedLinear {
  readonly node: Node
  readonly reason: string
}

/** "/model/layers.0/self_attn/q_proj/MatMul" -> "layers.0.self_attn.q_proj". */
export function labelOf(origin: Node, weight: Value): string {
  // One node of many weights: only those have names of their own.
  if (origin.kind === 'com.microsoft.MoE') return weight.name.replace(/^model\./, '')
  const parts = origin.name.split('/').filter(part => part !== '')
  if (parts.length < 2) return weight.name
  const named = /^(MatMul|Gemm|Gather)(_\w+)?$/.test(parts.at(-1)!) ? parts.slice(0, -1) : parts
  return (named[0] === 'model' ? named.slice(1) : named).join('.')
}

/** Not a Gemm that does more than multiply and add: transA, alpha, beta (ONNX 13). */
export const isPlainProduct = (node: Node): boolean =>
  node.kind !== 'Gemm' || (node.int('transA', 0) === 0 && node.float('alpha', 1) === 1 && node.float('beta', 1) === 1)

/** Linears among `nodes`; `data` are the values that depend on the model's input. */
export function findLinears(
  nodes: readonly Node[],
  data: ReadonlySet<Value>,
): { linears: Linear[]; skipped: SkippedLinear[] } {
  const linears: Linear[] = []
  const skipped: SkippedLinear[] = []
  const routers = findRouters(nodes)
  for (const node of nodes) {
    if (node.kind !== 'MatMul' || node.inputs.every(input => data.has(input!))) continue
    const [x, w] = node.inputs as [Value, Value]
    if (!data.has(x)) {
      skipped.push({ node, reason: 'its weight is the first operand' })
      continue
    }
    const stored = findStoredWeight(w)
    const { origin } = node
    if ('reason' in stored) skipped.push({ node, reason: `its weight is ${stored.reason}` })
    else if (routers.has(node)) skipped.push({ node, reason: 'router: which experts a token is sent to depends on it' })
    else if (!origin) skipped.push({ node, reason: 'it is part of a fused operation' })
    else if (origin.kind !== 'MatMul' && origin.kind !== 'Gemm' && origin.kind !== 'com.microsoft.MoE')
      skipped.push({ node, reason: `its weight is inside ${origin.kind}` })
    else if (!isPlainProduct(origin))
      skipped.push({ node, reason: 'a Gemm with transA, alpha or beta cannot become MatMulNBits' })
    else {
      const [inFeatures, outFeatures] = staticShape(w) as [number, number]
      const { weight, transposed } = stored
      const name = labelOf(origin, weight)
      linears.push({ name, node, origin, weight, transposed, inFeatures, outFeatures })
    }
  }
  return { linears, skipped }
}
