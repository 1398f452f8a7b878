/**
 * @file Attention (ONNX) and com.microsoft MultiHeadAttention as primitives. B batch, S queries, T keys, N query heads,
 * G key and value heads, hd channels of a head. A working copy has no past: S = T for decoders.
 */

import type { Node, Value } from '../ir.ts'
import { constantNumbers, staticShape } from '../shape.ts'
import { additiveMask, attend, causalMask, mergeHeads, splitHeads } from './attend.ts'
import type { RewriteBuilder } from './rewrite-builder.ts'
import { declined, required, requireEmptyPast, type Rewrite } from './rewrite.ts'

/** The causal mask of q and k [B, heads, length, hd]. @throws E_UNSUPPORTED when their lengths differ. */
function causalFor(g: RewriteBuilder, node: Node, q: Value, k: Value): Value {
  const [queries, keys] = [q, k].map(value => staticShape(value)[2]!)
  // With more keys than queries, versions of the ops disagree on which diagonal is meant.
  if (queries !== keys) throw declined(node, `a causal mask over ${queries} queries and ${keys} keys`)
  return causalMask(g, queries!)
}

/** A float mask as it is, if its last dimension fits the keys. @throws E_UNSUPPORTED when it does not. */
function checkedMask(node: Node, mask: Value, keys: number): Value {
  const width = staticShape(mask).at(-1)
  if (width !== keys && width !== 1) throw declined(node, `a mask "${mask.name}" for ${width} of ${keys} keys`)
  return mask
}

/**
 * Attention (ONNX 23, 24), 3-D [B, S, N * hd] or 4-D [B, N, S, hd]: softcap first, then the masks, as the corrected
 * text of the operator and onnxruntime since 1.27 have it. Outputs: y; present key and value and the scores are not written.
 */
const onnxAttention: Rewrite = (g, node, inputs) => {
  const [query, key, value] = ['Q', 'K', 'V'].map((name, i) => required(node, inputs, i, name)) as [Value, Value, Value]
  requireEmptyPast(node, inputs[4])
  requireEmptyPast(node, inputs[5])
  const flat = staticShape(query).length === 3
  const [heads, kvHeads] = [node.int('q_num_heads', 0), node.int('kv_num_heads', 0)]
  if (flat && (heads === 0 || kvHeads === 0)) throw declined(node, '3-D input without q_num_heads and kv_num_heads')
  const q = flat ? splitHeads(g, node, query, heads) : query
  const k = flat ? splitHeads(g, node, key, kvHeads) : key
  const v = flat ? splitHeads(g, node, value, kvHeads) : value
  const [, , keys, headDim] = staticShape(k) as [number, number, number, number]
  if (inputs[6] && !constantNumbers(inputs[6])?.every(length => length === keys))
    throw declined(node, 'nonpad_kv_seqlen other than the whole sequence')

  const masks: Value[] = []
  if (inputs[3]) {
    const mask = checkedMask(node, inputs[3], keys)
    masks.push(mask.dtype === 'bool' ? additiveMask(g, mask) : mask)
  }
  if (node.int('is_causal', 0)) masks.push(causalFor(g, node, q, k))
  const scale = node.float('scale', 1 / Math.sqrt(headDim))
  const y = attend(g, node, { q, k, v, scale, softcap: node.float('softcap', 0), masks })
  return [flat ? mergeHeads(g, y) : y]
}

/** The part of a MultiHeadAttention bias [Hq | Hk | Hv] that belongs to one projection, added to it. */
function addBias(g: RewriteBuilder, x: Value, bias: Value | undefined, start: number): Value {
  if (!bias) return x
  return g.add(x, g.slice(bias, 0, start, start + staticShape(x)[2]!))
}

/** Padding of MultiHeadAttention, int32 [B, T] or [B, S, T], 1 = a real token; undefined when all tokens are. */
function paddingMask(g: RewriteBuilder, node: Node, padding: Value): Value | undefined {
  const real = constantNumbers(padding)
  const shape = staticShape(padding)
  if (real === undefined) throw declined(node, 'key_padding_mask that is not constant')
  if (shape.length !== 2 && shape.length !== 3) throw declined(node, `key_padding_mask of shape [${shape.join(', ')}]`)
  if (real.every(flag => flag !== 0)) return undefined
  const filter = node.float('mask_filter_value', -10000)
  return g.once(`padding:${padding.name}:${filter}`, () => {
    const open = g.cast(g.reshape(padding, [shape[0]!, 1, shape.length === 3 ? shape[1]! : 1, shape.at(-1)!]), 'bool')
    return g.op('Where', [open, g.scalar(0), g.scalar(filter)])
  })
}

/**
 * com.microsoft MultiHeadAttention(query, key, value [B, S, N * hd], bias, key_padding_mask, attention_bias, past...).
 * Packed inputs (5-D) and keys that come from a cache (4-D) have no CPU kernel or no place in a decoder, and are refused.
 */
const multiHeadAttention: Rewrite = (g, node, inputs) => {
  const query = required(node, inputs, 0, 'query')
  const key = required(node, inputs, 1, 'key')
  const value = required(node, inputs, 2, 'value')
  requireEmptyPast(node, inputs[6])
  requireEmptyPast(node, inputs[7])
  for (const x of [query, key, value])
    if (staticShape(x).length !== 3) throw declined(node, `input "${x.name}" of rank ${staticShape(x).length}`)
  const heads = node.int('num_heads', 1)
  const [, , hidden] = staticShape(query) as [number, number, number]
  const q = splitHeads(g, node, addBias(g, query, inputs[3], 0), heads)
  const k = splitHeads(g, node, addBias(g, key, inputs[3], hidden), heads)
  const v = splitHeads(g, node, addBias(g, value, inputs[3], 2 * hidden), heads)

  const padding = inputs[4] && paddingMask(g, node, inputs[4])
  const masks = [
    ...(padding ? [padding] : []),
    ...(inputs[5] ? [checkedMask(node, inputs[5], staticShape(k)[2]!)] : []),
    ...(node.int('unidirectional', 0) ? [causalFor(g, node, q, k)] : []),
  ]
  const scale = node.float('scale', 0) || 1 / Math.sqrt(hidden / heads)
  return [mergeHeads(g, attend(g, node, { q, k, v, scale, softcap: 0, masks }))]
}

/** One row per op kind. */
export const ATTENTION_REWRITES: Readonly<Record<string, Rewrite>> = {
  Attention: onnxAttention,
  'com.microsoft.MultiHeadAttention': multiHeadAttention,
}
