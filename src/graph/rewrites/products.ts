/** @file Matrix products with something fused in. */

import { staticShape } from '../shape.ts'
import { declined, required, type Rewrite } from './rewrite.ts'

/** com.microsoft FusedMatMul: alpha * A' B', A' and B' with their last two axes swapped on demand. */
const fusedMatMul: Rewrite = (g, node, inputs) => {
  for (const name of ['transBatchA', 'transBatchB']) if (node.int(name, 0)) throw declined(node, name)
  const oriented = (index: number, name: string, flag: string) => {
    const value = required(node, inputs, index, name)
    // onnxruntime ignores the flag for vectors.
    return node.int(flag, 0) === 1 && staticShape(value).length > 1 ? g.transposeLast(value) : value
  }
  const a = oriented(0, 'A', 'transA')
  const b = oriented(1, 'B', 'transB')
  const alpha = node.float('alpha', 1)
  const product = g.matMul(a, b)
  return [alpha === 1 ? product : g.scale(product, alpha)]
}

/** com.microsoft BiasAdd(x [B, S, C], bias [C], skip [B, S, C]). */
const biasAdd: Rewrite = (g, node, inputs) => [
  g.add(g.add(required(node, inputs, 0, 'X'), required(node, inputs, 1, 'bias')), required(node, inputs, 2, 'skip')),
]

/** One row per op kind. */
export const PRODUCT_REWRITES: Readonly<Record<string, Rewrite>> = {
  'com.microsoft.FusedMatMul': fusedMatMul,
  'com.microsoft.BiasAdd': biasAdd,
}
