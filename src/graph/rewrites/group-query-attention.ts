/**
 * @file com.microsoft GroupQueryAttention as primitives, for prompts: B batch, S tokens, N query heads, G key and value
 * heads, hd channels of a head. Knows no cache: a working copy has no past, and every token of it is real.
 */

import type { Node, Value } from '../ir.ts'
import { constantNumbers, staticShape } from '../shape.ts'
import { floatTensor } from '../tensor.ts'
import { attend, causalMask, mergeHeads, splitHeads } from './attend.ts'
import { rmsNorm } from './norms.ts'
import type { RewriteBuilder } from './rewrite-builder.ts'
import { declined, required, requireEmptyPast, type Rewrite } from './rewrite.ts'
import { cacheRows, checkWidth, rotaryTables, rotate } from './rotary.ts'

type Inputs = readonly (Value | undefined)[]

/** A quantized cache changes the numbers. `sliding_window_cache` does not: it is about what the cache keeps for later. */
function checkAttributes(node: Node): void {
  for (const name of ['k_quant_type', 'v_quant_type']) {
    const type = node.string(name, 'NONE')
    if (type !== 'NONE') throw declined(node, `${name} = "${type}"`)
  }
}

/**
 * Cache buffers may be longer than what is in them: seqlens_k (tokens so far, with these, less one) tells how much is.
 * @throws E_UNSUPPORTED when something is.
 */
function checkPast(node: Node, inputs: Inputs, seqLen: number): void {
  if (constantNumbers(inputs[5])?.every(last => last === seqLen - 1)) return
  requireEmptyPast(node, inputs[3])
  requireEmptyPast(node, inputs[4])
}

/** [B, S, .. * hd] each, from three inputs, or from one whose columns are [q | k | v]. */
function projections(g: RewriteBuilder, node: Node, inputs: Inputs, count: number, kvCount: number): Value[] {
  const query = required(node, inputs, 0, 'query')
  const [, key, value] = inputs
  if (key && value) return [query, key, value]
  if (key || value) throw declined(node, 'key without value')
  const columns = staticShape(query).at(-1)!
  const headDim = columns / (count + 2 * kvCount)
  if (!Number.isInteger(headDim)) throw declined(node, `${columns} columns of packed q, k and v`)
  const sizes = g.ints([count * headDim, kvCount * headDim, kvCount * headDim])
  return g.ops('Split', [query, sizes], 3, { axis: 2 })
}

/** Per-head RMS norms of q and k (inputs 14, 15), then rotary positions (inputs 7, 8, 9). */
function prepare(g: RewriteBuilder, node: Node, inputs: Inputs, q: Value, k: Value): [Value, Value] {
  const epsilon = node.float('qk_norm_epsilon', 1e-6)
  const [queryGain, keyGain] = [inputs[14], inputs[15]]
  const normed = [
    queryGain ? rmsNorm(g, q, queryGain, epsilon) : q,
    keyGain ? rmsNorm(g, k, keyGain, epsilon) : k,
  ] as const
  if (node.int('do_rotary', 0) === 0) return [...normed]
  const [, , seqLen, headDim] = staticShape(q) as [number, number, number, number]
  const rows = (index: number, name: string) =>
    cacheRows(g, node, required(node, inputs, index, name), seqLen, inputs[9])
  checkWidth(node, required(node, inputs, 7, 'cos_cache'), headDim)
  const angles = { cos: rows(7, 'cos_cache'), sin: rows(8, 'sin_cache') }
  const tables = rotaryTables(g, angles, headDim, node.int('rotary_interleaved', 0) === 1, 'BNSH')
  return [rotate(g, normed[0], tables), rotate(g, normed[1], tables)]
}

/** The logit that joins every softmax: head_sink (input 11), or 0 with smooth_softmax. */
function sinkOf(g: RewriteBuilder, node: Node, inputs: Inputs, count: number): Value | undefined {
  if (inputs[11]) return inputs[11]
  if (node.int('smooth_softmax', -1) !== 1) return undefined
  return g.once(`zeroSink:${count}`, () =>
    g.initializer('zero_sink', floatTensor([count], Array<number>(count).fill(0))),
  )
}

function masksOf(g: RewriteBuilder, node: Node, inputs: Inputs, seqLen: number): Value[] {
  const window = node.int('local_window_size', -1)
  const causal = node.int('causal', 1) === 1
  if (!causal && window > 0) throw declined(node, 'local_window_size without causal')
  const bias = inputs[10]
  if (bias && staticShape(bias).at(-1) !== seqLen)
    throw declined(node, `attention_bias of shape [${staticShape(bias).join(', ')}] for ${seqLen} tokens`)
  return [...(bias ? [bias] : []), ...(causal ? [causalMask(g, seqLen, window > 0 ? window : Infinity)] : [])]
}

/** Outputs: y [B, S, N * hd]; present key and value are not written. */
const groupQueryAttention: Rewrite = (g, node, inputs) => {
  checkAttributes(node)
  const [count, kvCount] = [node.int('num_heads', 0), node.int('kv_num_heads', 0)]
  if (count <= 0 || kvCount <= 0) throw declined(node, 'a node without num_heads and kv_num_heads')
  const [query, key, value] = projections(g, node, inputs, count, kvCount) as [Value, Value, Value]
  const plainQ = splitHeads(g, node, query, count)
  const plainK = splitHeads(g, node, key, kvCount)
  const v = splitHeads(g, node, value, kvCount)
  const [, , seqLen, headDim] = staticShape(plainQ) as [number, number, number, number]
  checkPast(node, inputs, seqLen)
  if (staticShape(plainK)[2] !== seqLen) throw declined(node, `${staticShape(plainK)[2]} keys for ${seqLen} queries`)
  const [q, k] = prepare(g, node, inputs, plainQ, plainK)
  const y = attend(g, node, {
    q,
    k,
    v,
    scale: node.float('scale', 0) || 1 / Math.sqrt(headDim),
    softcap: node.float('softcap', 0),
    masks: masksOf(g, node, inputs, seqLen),
    sink: sinkOf(g, node, inputs, count),
  })
  return [mergeHeads(g, y)]
}

/** One row per op kind. */
export const GROUP_QUERY_REWRITES: Readonly<Record<string, Rewrite>> = {
  'com.microsoft.GroupQueryAttention': groupQueryAttention,
}
