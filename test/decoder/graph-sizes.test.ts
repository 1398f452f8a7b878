/** @file Sizes that only the graph knows: head width, cache rings, position tables. */

import { expect, test } from 'vitest'
import { cacheCapacityOf, headDimOf, positionTableLength } from '../../src/decoder/graph-sizes.ts'
import { type Attribute, Graph, Node, Value } from '../../src/graph/ir.ts'
import { int64Tensor } from '../../src/graph/tensor.ts'

const int = (value: number): Attribute => ({ type: 'int', value })
const weight = (...dims: number[]) =>
  new Value('w', 'float32', dims, { dtype: 'float32', dims, data: { file: '/nowhere', offset: 0, length: 0 } })

/** Ops of ai.onnx; the others are onnxruntime's own. */
const STANDARD = new Set(['Add', 'Cast'])

function apply(
  graph: Graph,
  opType: string,
  inputs: (Value | undefined)[],
  attributes: Record<string, number> = {},
): Value {
  const output = new Value(`${opType}_out`, 'float32')
  const entries = Object.entries(attributes).map(([name, value]) => [name, int(value)] as const)
  const domain = STANDARD.has(opType) ? '' : 'com.microsoft'
  graph.nodes.push(new Node(opType, inputs, [output], new Map(entries), domain))
  return output
}

interface Attention {
  readonly packed?: boolean
  readonly cos?: readonly number[]
  readonly attributes?: Record<string, number>
}

/** 4 query heads and 2 key-value heads after `project`, which gets the normed hidden state. */
function attention(
  project: (graph: Graph, x: Value) => Value,
  { packed = true, cos, attributes = {} }: Attention = {},
) {
  const graph = new Graph()
  const past = new Value('past_key_values.0.key', 'float32', ['b', 2, 'past', 'kv_cache_dim'])
  graph.inputs.push(past)
  const query = project(graph, new Value('x', 'float32', ['b', 's', 64]))
  const key = packed ? undefined : new Value('k', 'float32')
  const cache = cos && weight(...cos)
  const inputs = [query, key, key, past, undefined, undefined, undefined, cache, cache]
  apply(graph, 'GroupQueryAttention', inputs, { num_heads: 4, kv_num_heads: 2, ...attributes })
  return { graph, past }
}

test.each<[string, (graph: Graph, x: Value) => Value, Attention]>([
  ['a packed MatMul', (g, x) => apply(g, 'MatMul', [x, weight(64, 8 * 16)]), {}],
  ['its bias', (g, x) => apply(g, 'Add', [weight(8 * 16), apply(g, 'Mystery', [x])]), {}],
  [
    'a MatMul under a Cast and an Add',
    (g, x) => apply(g, 'Add', [apply(g, 'Cast', [apply(g, 'MatMul', [x, weight(64, 128)])]), weight(1, 1, 128)]),
    {},
  ],
  ['a quantized weight', (g, x) => apply(g, 'MatMulNBits', [x, weight(1, 1, 1)], { N: 8 * 16, K: 64 }), {}],
  ['a Gemm', (g, x) => apply(g, 'Gemm', [x, weight(8 * 16, 64)], { transB: 1 }), {}],
  ['a separate query', (g, x) => apply(g, 'MatMul', [x, weight(64, 4 * 16)]), { packed: false }],
  ['the shape of the query', () => new Value('q', 'float32', ['b', 's', 128]), {}],
  ['cos_cache, where the query says nothing', (g, x) => apply(g, 'Mystery', [x]), { cos: [32, 8] }],
])('head width from %s', (_, project, options) => {
  const { graph, past } = attention(project, options)
  expect(headDimOf(graph, past)).toBe(16)
})

test('nothing to go by, nothing said', () => {
  const { graph, past } = attention((g, x) => apply(g, 'Mystery', [x]))
  expect(headDimOf(graph, past)).toBeUndefined()
  expect(headDimOf(new Graph(), past)).toBeUndefined()
})

test('a sliding-window cache is a ring of the length of its window', () => {
  const project = (_: Graph, x: Value) => x
  const window = { local_window_size: 8 }
  const ring = attention(project, { attributes: { ...window, sliding_window_cache: 1 } })
  expect(cacheCapacityOf(ring.graph, ring.past)).toBe(8)
  const plain = attention(project, { attributes: window })
  expect(cacheCapacityOf(plain.graph, plain.past)).toBe(0)
})

/** Learned positions [rows, 8] looked up at `index(position_ids)`. */
function lookup(rows: number, index: (graph: Graph, positions: Value) => Value): Graph {
  const graph = new Graph()
  const positions = new Value('position_ids', 'int64', ['b', 's'])
  graph.inputs.push(positions)
  const output = new Value('y', 'float32')
  graph.nodes.push(new Node('Gather', [weight(rows, 8), index(graph, positions)], [output]))
  return graph
}

test('learned positions end where their table ends, less what is added to them', () => {
  const two = int64Tensor([], [2])
  const constant = new Value('two', 'int64', [])
  new Node('Constant', [], [constant], new Map([['value', { type: 'tensor', value: two }]]))
  expect(positionTableLength(lookup(32, (_, positions) => positions))).toBe(32)
  expect(positionTableLength(lookup(34, (g, p) => apply(g, 'Add', [p, new Value('two', 'int64', [], two)])))).toBe(32)
  expect(positionTableLength(lookup(34, (g, p) => apply(g, 'Add', [constant, apply(g, 'Cast', [p])])))).toBe(32)
  // Token embeddings are looked up too, but not at positions.
  expect(positionTableLength(lookup(999, () => new Value('input_ids', 'int64')))).toBeUndefined()
})

test('the shortest rotary table counts; one with a batch axis is not looked up', () => {
  const { graph } = attention((_, x) => x, { cos: [128, 8] })
  expect(positionTableLength(graph)).toBe(128)
  const x = new Value('x', 'float32')
  apply(graph, 'RotaryEmbedding', [x, x, weight(64, 8), weight(64, 8)])
  expect(positionTableLength(graph)).toBe(64)
  const batched = new Graph()
  batched.nodes.push(new Node('RotaryEmbedding', [x, weight(1, 5, 8), weight(1, 5, 8)], [new Value('y')]))
  expect(positionTableLength(batched)).toBeUndefined()
})
