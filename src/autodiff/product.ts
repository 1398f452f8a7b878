/** @file Matrix products in gradients. A product knows what it was made of, so that its transpose costs nothing. Knows no rule. */

import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/ir.ts'

interface Product {
  readonly a: Value
  readonly b: Value
  readonly transA: boolean
  readonly transB: boolean
}

/** Products written by gradient rules, by the node that computes them. */
const PRODUCTS = new WeakMap<Node, Product>()

const swapped = (g: Builder, x: Value, swap: boolean): Value => (swap ? g.transposeLast(x) : x)

/**
 * op(a) op(b), where op swaps the last two axes if `transA` or `transB` says so; batch axes as in MatMul. a and b have rank 2 or more.
 * onnxruntime fuses the Transpose into the product on CPU and CUDA. WebGPU has no kernel for the fused op, so programs do not hold it.
 */
export function product(g: Builder, a: Value, b: Value, transA: boolean, transB: boolean): Value {
  const result = emit(g, { a, b, transA, transB })
  if (result.producer) PRODUCTS.set(result.producer, { a, b, transA, transB })
  return result
}

const emit = (g: Builder, { a, b, transA, transB }: Product): Value =>
  g.matMul(swapped(g, a, transA), swapped(g, b, transB))

/**
 * Transpose (last two axes) of a gradient that is itself a product: (A B)^T = B^T A^T. So the weight gradient of
 * MatMul(x, Transpose(w)) comes out in the layout of w at no cost. The walk removes the first product when nothing reads it.
 * Undefined for every other value.
 */
export function transposedProduct(g: Builder, value: Value): Value | undefined {
  const known = value.producer && PRODUCTS.get(value.producer)
  return known && product(g, known.b, known.a, !known.transB, !known.transA)
}
