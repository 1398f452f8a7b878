/**
 * @file Rotary position embedding (arXiv:2104.09864) as primitives, and the ops that are nothing else.
 * B batch, S sequence, N heads, hd channels of a head, rot channels that turn (the first ones; the others pass through).
 */

import { option } from '../../option-mark.ts'
import { QuantError } from '../../errors.ts'
import type { Node, Value } from '../ir.ts'
import { type Shape, staticShape } from '../shape.ts'
import { floatTensor } from '../tensor.ts'
import type { RewriteBuilder } from './rewrite-builder.ts'
import { declined, required, type Rewrite } from './rewrite.ts'

/** Factors for `rotate`. `width` is rot. A pair is (2i, 2i + 1) when `interleaved`, else (i, i + rot / 2). */
export interface RotaryTables {
  readonly cos: Value
  readonly sin: Value
  readonly width: number
  readonly interleaved: boolean
}

/** Layout of the tensor that is turned: [B, N, S, hd] or [B, S, N, hd]. */
export type HeadLayout = 'BNSH' | 'BSNH'

const lastDim = (value: Value): number => staticShape(value).at(-1)!

const filled = (g: RewriteBuilder, dims: Shape, number: number): Value =>
  g.once(`filled:${dims.join()}:${number}`, () =>
    g.initializer('filled', floatTensor(dims, Array<number>(dims.reduce((a, b) => a * b, 1)).fill(number))),
  )

/**
 * Rows of a cache [positions, rot / 2] for `seqLen` tokens: the first ones, or those at `positions`, which is int64 [B, S]
 * or an offset [1]. Result [S, rot / 2] or [B, S, rot / 2].
 * @throws E_SEQ_LEN when the cache is shorter than the sequence.
 */
export function cacheRows(g: RewriteBuilder, node: Node, cache: Value, seqLen: number, positions?: Value): Value {
  const [length] = staticShape(cache)
  if (length! < seqLen) {
    throw new QuantError(
      'E_SEQ_LEN',
      `sequences of ${seqLen} tokens do not fit ${node.kind} "${node.name}", whose rotary tables end at ${length}`,
      `Use a shorter ${option('seqLen')}.`,
    )
  }
  return g.once(`cacheRows:${cache.name}:${seqLen}:${positions?.name}`, () => {
    if (!positions) return g.slice(cache, 0, 0, seqLen)
    const isOffset = staticShape(positions).length === 1
    const tokens = isOffset ? g.add(positions, g.ints([...Array(seqLen).keys()])) : positions
    return g.op('Gather', [cache, tokens], { axis: 0 })
  })
}

/**
 * Tables for whole heads from cos and sin of the angles, [S, rot / 2] or [B, S, rot / 2]: each angle twice, the sine negative
 * for the first of a pair, and 1 and 0 for channels that do not turn. They depend on constants only, and are folded.
 */
export function rotaryTables(
  g: RewriteBuilder,
  angles: { readonly cos: Value; readonly sin: Value },
  headDim: number,
  interleaved: boolean,
  layout: HeadLayout,
): RotaryTables {
  const shape = staticShape(angles.cos)
  const half = shape.at(-1)!
  const seqLen = shape.at(-2)!
  const batch = shape.length === 3 ? shape[0]! : 1
  const rows = layout === 'BNSH' ? [batch, 1, seqLen] : [batch, seqLen, 1]
  const rest = headDim - 2 * half
  const widen = (first: Value, second: Value, padding: number): Value => {
    const parts = [first, second].map(part => g.reshape(part, interleaved ? [...rows, half, 1] : [...rows, half]))
    const pairs = g.reshape(g.concat(parts, -1), [...rows, 2 * half])
    return rest === 0 ? pairs : g.concat([pairs, filled(g, [...rows, rest], padding)], -1)
  }
  const key = `rotary:${headDim}:${interleaved}:${layout}`
  return {
    cos: g.once(`${key}:cos:${angles.cos.name}`, () => widen(angles.cos, angles.cos, 1)),
    sin: g.once(`${key}:sin:${angles.sin.name}`, () => widen(g.neg(angles.sin), angles.sin, 0)),
    width: 2 * half,
    interleaved,
  }
}

/** x with the two channels of every pair exchanged. Split and Concat are each other's gradient; Slice would need padding. */
function swapPairs(g: RewriteBuilder, x: Value, width: number, interleaved: boolean): Value {
  const shape = staticShape(x)
  const rest = shape.at(-1)! - width
  const split = (value: Value, sizes: readonly number[]) => g.split(value, sizes, -1)
  const tail = rest === 0 ? [] : [rest]
  if (!interleaved) {
    const [a, b, ...others] = split(x, [width / 2, width / 2, ...tail])
    return g.concat([b!, a!, ...others], -1)
  }
  const [turning, ...others] = rest === 0 ? [x] : split(x, [width, rest])
  const [even, odd] = split(g.reshape(turning!, [...shape.slice(0, -1), width / 2, 2]), [1, 1])
  const swapped = g.reshape(g.concat([odd!, even!], -1), [...shape.slice(0, -1), width])
  return rest === 0 ? swapped : g.concat([swapped, ...others], -1)
}

/** Turns every pair (a, b) to (a cos - b sin, b cos + a sin); x in the layout the tables were made for. */
export function rotate(g: RewriteBuilder, x: Value, tables: RotaryTables): Value {
  const swapped = swapPairs(g, x, tables.width, tables.interleaved)
  return g.add(g.mul(x, tables.cos), g.mul(swapped, tables.sin))
}

/** x [B, N, S, hd] or [B, S, N * hd], turned; the same shape. `headDim` is needed for the second only. */
function rotateInput(
  g: RewriteBuilder,
  x: Value,
  headDim: number,
  interleaved: boolean,
  angles: { readonly cos: Value; readonly sin: Value },
): Value {
  const shape = staticShape(x)
  if (shape.length === 4) return rotate(g, x, rotaryTables(g, angles, headDim, interleaved, 'BNSH'))
  const heads = g.reshape(x, [shape[0]!, shape[1]!, shape[2]! / headDim, headDim])
  return g.reshape(rotate(g, heads, rotaryTables(g, angles, headDim, interleaved, 'BSNH')), shape)
}

/** The tables must be as wide as `rotary_embedding_dim` (0: any), and no wider than a head. @throws E_UNSUPPORTED */
export function checkWidth(node: Node, table: Value, headDim: number): void {
  const width = node.int('rotary_embedding_dim', 0)
  const cached = 2 * lastDim(table)
  if ((width > 0 && width !== cached) || cached > headDim) {
    throw declined(node, `rotary_embedding_dim = ${width} with tables for ${cached} channels and heads of ${headDim}`)
  }
}

/** com.microsoft RotaryEmbedding(x, position_ids [B, S] or [1], cos_cache, sin_cache); x [B, S, N * hd] or [B, N, S, hd]. */
const contribRotary: Rewrite = (g, node, inputs) => {
  if (node.int('is_packed_batching', 0)) throw declined(node, 'is_packed_batching')
  if (node.float('scale', 1) !== 1) throw declined(node, 'scale')
  const x = required(node, inputs, 0, 'input')
  const positions = required(node, inputs, 1, 'position_ids')
  const caches = { cos: required(node, inputs, 2, 'cos_cache'), sin: required(node, inputs, 3, 'sin_cache') }
  const shape = staticShape(x)
  const heads = node.int('num_heads', 0)
  const headDim = shape.length === 4 ? shape[3]! : heads > 0 ? shape[2]! / heads : 2 * lastDim(caches.cos)
  checkWidth(node, caches.cos, headDim)
  // S is the last axis but one of [B, N, S, hd] and of [B, S, N * hd].
  const rows = (cache: Value) => cacheRows(g, node, cache, shape.at(-2)!, positions)
  return [
    rotateInput(g, x, headDim, node.int('interleaved', 0) === 1, { cos: rows(caches.cos), sin: rows(caches.sin) }),
  ]
}

/** RotaryEmbedding (ONNX 23): caches [positions, rot / 2] with position_ids [B, S], or [B, S, rot / 2] without. */
const onnxRotary: Rewrite = (g, node, inputs) => {
  const x = required(node, inputs, 0, 'X')
  const caches = { cos: required(node, inputs, 1, 'cos_cache'), sin: required(node, inputs, 2, 'sin_cache') }
  const shape = staticShape(x)
  const heads = node.int('num_heads', 0)
  if (shape.length === 3 && heads <= 0) throw declined(node, 'a 3-D input without num_heads')
  const headDim = shape.length === 4 ? shape[3]! : shape[2]! / heads
  checkWidth(node, caches.cos, headDim)
  const rows = (cache: Value) => (inputs[3] ? cacheRows(g, node, cache, shape.at(-2)!, inputs[3]) : cache)
  return [
    rotateInput(g, x, headDim, node.int('interleaved', 0) === 1, { cos: rows(caches.cos), sin: rows(caches.sin) }),
  ]
}

/** One row per op kind. */
export const ROTARY_REWRITES: Readonly<Record<string, Rewrite>> = {
  RotaryEmbedding: onnxRotary,
  'com.microsoft.RotaryEmbedding': contribRotary,
}
