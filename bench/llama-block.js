/** @file A Llama block of any size with random weights, as the block finder gives it. For measuring only. */

import { Builder } from '../dist/graph/builder.js'
import { Graph } from '../dist/graph/ir.js'
import { floatTensor } from '../dist/graph/tensor.js'
import { findBlocks } from '../dist/quant/find/blocks.js'

/** Deterministic numbers in (-1, 1). */
export function noise(count, scale, seed) {
  const values = new Float32Array(count)
  let state = seed * 2654435761 + 1
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    values[i] = (state / 2 ** 31 - 1) * scale
  }
  return values
}

/** A graph and its one block [1, tokens, hidden] -> [1, tokens, hidden]; heads of `width`, no grouped queries. */
export function llamaGraph({ hidden, ffn, tokens, width = hidden >= 512 ? 64 : 32 }) {
  const heads = hidden / width
  const g = new Builder(new Graph('llama'))
  let seed = 1
  const linear = (x, K, N) =>
    g.matMul(x, g.initializer('w', floatTensor([K, N], noise(K * N, Math.sqrt(3 / K), seed++))))
  const norm = x => {
    const rms = g.op('Sqrt', [g.shift(g.reduceMean(g.mul(x, x), [-1]), 1e-5)])
    return g.mul(g.div(x, rms), g.initializer('gain', floatTensor([hidden], new Float32Array(hidden).fill(1))))
  }
  const split = x => g.transpose(g.reshape(x, [1, tokens, heads, width]), [0, 2, 1, 3])
  const angles = Float32Array.from(
    { length: tokens * width },
    (_, i) => Math.floor(i / width) / 10000 ** (((i % width) % (width / 2)) / (width / 2)),
  )
  const table = f => g.initializer('table', floatTensor([tokens, width], angles.map(f)))
  const [cos, sin] = [table(Math.cos), table(Math.sin)]
  const rotary = x => {
    const half = [g.slice(x, 3, 0, width / 2), g.slice(x, 3, width / 2, width)]
    return g.add(g.mul(x, cos), g.mul(g.concat([g.neg(half[1]), half[0]], -1), sin))
  }
  const mask = g.initializer(
    'mask',
    floatTensor(
      [tokens, tokens],
      Float32Array.from({ length: tokens * tokens }, (_, i) => (i % tokens > Math.floor(i / tokens) ? -1e9 : 0)),
    ),
  )

  const x = g.input('x', 'float32', [1, tokens, hidden])
  const h = norm(x)
  const [q, k, v] = [0, 1, 2].map(() => split(linear(h, hidden, hidden)))
  const scores = g.scale(g.matMul(rotary(q), g.transposeLast(rotary(k))), 1 / Math.sqrt(width))
  const mixed = g.matMul(g.op('Softmax', [g.add(scores, mask)]), v)
  const y = g.add(x, linear(g.reshape(g.transpose(mixed, [0, 2, 1, 3]), [1, tokens, hidden]), hidden, hidden))
  const n = norm(y)
  const gate = linear(n, hidden, ffn)
  const z = g.add(y, linear(g.mul(g.mul(gate, g.op('Sigmoid', [gate])), linear(n, hidden, ffn)), ffn, hidden))
  g.output(g.op('Tanh', [z]))
  for (const node of g.graph.nodes) node.origin = node
  return { graph: g.graph, block: findBlocks(g.graph)[0] }
}

export const llamaBlock = sizes => llamaGraph(sizes).block
