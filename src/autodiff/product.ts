/** @file Matrix products in gradients: transposed operands without Transpose nodes where the runtime can. Knows no rule. */

import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/ir.ts'
import { scaled } from './fragments.ts'

interface Product {
  readonly a: Value
  readonly b: Value
  readonly transA: boolean
  readonly transB: boolean
  readonly alpha: number
}

/** Products written by gradient rules, by the node that computes them. */
const PRODUCTS = new WeakMap<Node, Product>()

const swapped = (g: Builder, x: Value, swap: boolean): Value => (swap ? g.transposeLast(x) : x)

/**
 * alpha op(a) op(b), op swapping the last two axes where asked; batch axes as in MatMul. a and b have rank 2 or more.
 * FusedMatMul, which needs no transposed copies, has a kernel for float32 alone.
 */
export function product(g: Builder, a: Value, b: Value, transA: boolean, transB: boolean, alpha = 1): Value {
  const result = emit(g, { a, b, transA, transB, alpha })
  if (result.producer) PRODUCTS.set(result.producer, { a, b, transA, transB, alpha })
  return result
}

function emit(g: Builder, { a, b, transA, transB, alpha }: Product): Value {
  if (!transA && !transB && alpha === 1) return g.matMul(a, b)
  if (a.dtype !== 'float32') return scaled(g, g.matMul(swapped(g, a, transA), swapped(g, b, transB)), alpha)
  const attributes = {
    ...(transA && { transA: 1 }),
    ...(transB && { transB: 1 }),
    ...(alpha !== 1 && { alpha: { type: 'float', value: alpha } as const }),
  }
  return g.op('FusedMatMul', [a, b], attributes, { domain: 'com.microsoft' })
}

/**
 * The transpose (last two axes) of a gradient that is itself a product: (A B)^T = B^T A^T, so that the weight gradient of
 * MatMul(x, Transpose(w)) comes out in w's own layout at no cost. The first product is swept once nobody reads it.
 * Undefined for every other value.
 */
export function transposedProduct(g: Builder, value: Value): Value | undefined {
  const known = value.producer && PRODUCTS.get(value.producer)
  return known && product(g, known.b, known.a, !known.transB, !known.transA, known.alpha)
}
