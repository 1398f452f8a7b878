import { describe, expect, test } from 'vitest'
import { Builder } from '../../../src/graph/builder.ts'
import { Graph, type Value } from '../../../src/graph/ir.ts'
import { floatTensor } from '../../../src/graph/tensor.ts'
import { findBlocks } from '../../../src/quant/find/blocks.ts'

const HIDDEN = 32

/** Small deterministic weights; their values do not matter here. */
function weight(g: Builder, name: string, rows = HIDDEN, cols = HIDDEN): Value {
  return g.initializer(
    name,
    floatTensor(
      [rows, cols],
      Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i)),
    ),
  )
}

function attention(g: Builder, x: Value, name: string): Value {
  const [q, k, v] = ['q', 'k', 'v'].map(part => g.matMul(x, weight(g, `${name}.${part}`))) as [Value, Value, Value]
  const mixed = g.matMul(g.op('Softmax', [g.matMul(q, g.transposeLast(k))]), v)
  return g.add(x, g.matMul(mixed, weight(g, `${name}.o`)))
}

function mlp(g: Builder, x: Value, name: string): Value {
  const hidden = g.op('Relu', [g.matMul(x, weight(g, `${name}.up`, HIDDEN, 64))])
  return g.add(x, g.matMul(hidden, weight(g, `${name}.down`, 64)))
}

/** input -> layers -> head, as a working copy has it: every node knows a node it came from. */
function model(write: (g: Builder, x: Value) => Value): Graph {
  const g = new Builder(new Graph('test'))
  const x = g.input('hidden', 'float32', [1, 4, HIDDEN])
  g.output(g.matMul(g.op('Tanh', [write(g, x)]), weight(g, 'head', HIDDEN, 100)))
  for (const node of g.graph.nodes) node.origin = node
  return g.graph
}

const weightsOf = (graph: Graph): string[][] =>
  findBlocks(graph).map(({ linears }) => linears.map(linear => linear.weight.name.replace(/.*\./, '')))

const BLOCK = ['q', 'k', 'v', 'o', 'up', 'down']

describe('findBlocks', () => {
  test('cuts at the residual stream, and leaves the head out', () => {
    const graph = model((g, x) => ['0', '1', '2'].reduce((h, i) => mlp(g, attention(g, h, `a${i}`), `m${i}`), x))
    expect(weightsOf(graph)).toEqual([BLOCK, BLOCK, BLOCK])
    const blocks = findBlocks(graph)
    expect(blocks[0]!.input).toBe(graph.inputs[0])
    expect(blocks[1]!.input).toBe(blocks[0]!.output)
    expect(blocks[2]!.output.producer!.kind).toBe('Add')
  })

  test('a single block ends with its last residual addition', () => {
    expect(weightsOf(model((g, x) => mlp(g, attention(g, x, 'a'), 'm')))).toEqual([BLOCK])
  })

  test('attention and MLP in parallel make one segment', () => {
    const parallel = (g: Builder, x: Value, i: string) =>
      g.add(
        attention(g, x, `a${i}`),
        g.matMul(g.op('Relu', [g.matMul(x, weight(g, `${i}.up`))]), weight(g, `${i}.down`)),
      )
    const graph = model((g, x) => parallel(g, parallel(g, x, '0'), '1'))
    expect(weightsOf(graph).map(names => [...names].sort())).toEqual([[...BLOCK].sort(), [...BLOCK].sort()])
  })

  test('a norm after the residual addition belongs to its block', () => {
    const graph = model((g, x) => {
      let h = x
      for (const i of ['0', '1']) h = g.op('Softmax', [mlp(g, g.op('Softmax', [attention(g, h, `a${i}`)]), `m${i}`)])
      return h
    })
    expect(findBlocks(graph).map(({ output }) => output.producer!.kind)).toEqual(['Softmax', 'Softmax'])
  })

  test('follows transposed weights to where they are stored, and says what it skips', () => {
    const graph = model((g, x) => {
      const stored = weight(g, 'a.up', 64)
      const h = g.matMul(attention(g, x, 'a'), g.transposeLast(stored))
      const computed = g.op('Exp', [weight(g, 'a.down', 64)])
      return g.add(x, g.matMul(h, computed))
    })
    const [block] = findBlocks(graph)
    const up = block!.linears.find(({ weight: stored }) => stored.name === 'a.up')
    expect(up).toMatchObject({ transposed: true, inFeatures: HIDDEN, outFeatures: 64 })
    expect(block!.skipped.map(({ reason }) => reason)).toEqual(['its weight is computed by Exp'])
  })

  test('refuses a model without attention, saying which check failed', () => {
    const graph = model((g, x) => mlp(g, mlp(g, x, '0'), '1'))
    expect(() => findBlocks(graph)).toThrow(
      expect.objectContaining({
        code: 'E_NO_BLOCKS',
        message: expect.stringContaining('no product of two activations'),
      }),
    )
  })
})
