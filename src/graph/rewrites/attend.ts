/**
 * @file Scaled dot-product attention (arXiv:1706.03762, eq. 1) as primitives: the part all attention ops share.
 * B batch, S queries, T keys, N query heads, G key and value heads, hd channels of a head.
 */

import type { Node, Value } from '../ir.ts'
import { staticShape } from '../shape.ts'
import { floatTensor } from '../tensor.ts'
import type { RewriteBuilder } from './rewrite-builder.ts'
import { declined } from './rewrite.ts'

/** Closes a score. Finite, so that two masks may be added, and far below any score: exp of it is exactly 0. */
const CLOSED = -1e9

export interface AttentionInputs {
  /** [B, N, S, hd] */
  readonly q: Value
  /** [B, G, T, hd]; head h of q reads head floor(h / (N / G)). */
  readonly k: Value
  /** [B, G, T, hv] */
  readonly v: Value
  /** Factor of the scores. */
  readonly scale: number
  /** Scores become softcap * tanh(scores / softcap); 0 leaves them. */
  readonly softcap: number
  /** Added to the scores, each broadcastable to [B, N, S, T]. */
  readonly masks: readonly Value[]
  /** One more column of scores, which takes part in the softmax and is then dropped: one number per head, [N]. */
  readonly sink?: Value | undefined
}

/** [B, S, heads * hd] -> [B, heads, S, hd]. @throws E_UNSUPPORTED when the channels do not divide. */
export function splitHeads(g: RewriteBuilder, node: Node, x: Value, heads: number): Value {
  const shape = staticShape(x)
  const [batch, seqLen, channels] = shape
  if (shape.length !== 3 || channels! % heads !== 0)
    throw declined(node, `"${x.name}" of shape [${shape.join(', ')}] as ${heads} heads`)
  return g.transpose(g.reshape(x, [batch!, seqLen!, heads, channels! / heads]), [0, 2, 1, 3])
}

/** [B, heads, S, hd] -> [B, S, heads * hd]. */
export function mergeHeads(g: RewriteBuilder, x: Value): Value {
  const [batch, heads, seqLen, headDim] = staticShape(x)
  return g.reshape(g.transpose(x, [0, 2, 1, 3]), [batch!, seqLen!, heads! * headDim!])
}

/** Lets token i see tokens j <= i, and with a window only j > i - window. [1, 1, S, S], the same value for the same mask. */
export function causalMask(g: RewriteBuilder, seqLen: number, window: number = Infinity): Value {
  const width = Math.min(window, seqLen)
  return g.once(`causal:${seqLen}:${width}`, () => {
    const mask = new Float32Array(seqLen * seqLen).fill(CLOSED)
    for (let i = 0; i < seqLen; i++) mask.fill(0, i * seqLen + Math.max(0, i - width + 1), i * seqLen + i + 1)
    return g.initializer('causal_mask', floatTensor([1, 1, seqLen, seqLen], mask))
  })
}

/** A boolean mask (true = may see) as one to add. Rows closed everywhere come out uniform; working copies have none. */
export function additiveMask(g: RewriteBuilder, mask: Value): Value {
  return g.once(`additive:${mask.name}`, () => g.op('Where', [mask, g.scalar(0), g.scalar(CLOSED)]))
}

/** One mask for many: their sum depends on constants only, so that the scores are added to once. */
function sumMasks(g: RewriteBuilder, masks: readonly Value[]): Value | undefined {
  if (masks.length < 2) return masks[0]
  return g.once(`masks:${masks.map(mask => mask.name).join()}`, () => masks.reduce((sum, mask) => g.add(sum, mask)))
}

/** Softmax over the last axis of scores [B, N, S, T] and, if there is one, a sink. */
function probabilities(g: RewriteBuilder, scores: Value, sink: Value | undefined): Value {
  if (!sink) return g.op('Softmax', [scores], { axis: -1 })
  const [batch, heads, seqLen, keys] = staticShape(scores)
  const column = g.once(`sink:${sink.name}:${batch}:${seqLen}`, () =>
    g.op('Expand', [g.reshape(sink, [1, heads!, 1, 1]), g.ints([batch!, heads!, seqLen!, 1])]),
  )
  return g.slice(g.op('Softmax', [g.concat([scores, column], -1)], { axis: -1 }), 3, 0, keys!)
}

/**
 * softmax(softcap(scale * q k') + masks) v, [B, N, S, hv]. The query heads that share a key head are stacked as more
 * queries of it, [B, G, N / G * S, hd], a matter of shape alone: keys and values are neither copied nor broadcast.
 */
export function attend(
  g: RewriteBuilder,
  node: Node,
  { q, k, v, scale, softcap, masks, sink }: AttentionInputs,
): Value {
  const [batch, heads, seqLen, headDim] = staticShape(q) as [number, number, number, number]
  const [, kvHeads, keys] = staticShape(k) as [number, number, number]
  if (heads % kvHeads !== 0) throw declined(node, `${heads} query heads over ${kvHeads} key heads`)
  const stack = (x: Value, width: number) =>
    kvHeads === heads ? x : g.reshape(x, [batch, kvHeads, (heads / kvHeads) * seqLen, width])
  const unstack = (x: Value, width: number) => (kvHeads === heads ? x : g.reshape(x, [batch, heads, seqLen, width]))

  // The scale goes to q, the smallest of the factors.
  const scaled = g.scale(q, softcap > 0 ? scale / softcap : scale)
  const products = unstack(g.matMul(stack(scaled, headDim), g.transposeLast(k)), keys)
  const scores = softcap > 0 ? g.scale(g.op('Tanh', [products]), softcap) : products
  const mask = sumMasks(g, masks)
  const weights = probabilities(g, mask ? g.add(scores, mask) : scores, sink)
  return unstack(g.matMul(stack(weights, keys), v), staticShape(v).at(-1)!)
}
