import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Graph, Node, type Value } from '../../../../src/graph/ir.ts'
import { attend } from '../../../../src/graph/rewrites/attend.ts'
import { rmsNorm } from '../../../../src/graph/rewrites/norms.ts'
import { RewriteBuilder } from '../../../../src/graph/rewrites/rewrite-builder.ts'
import { rotate, rotaryTables } from '../../../../src/graph/rewrites/rotary.ts'
import { elementCount, floatTensor, type Tensor } from '../../../../src/graph/tensor.ts'
import { Random } from '../../../../src/calibration/rng.ts'
import { analyze } from '../../../../src/quant/find/analyze.ts'
import { type Block, findBlocks } from '../../../../src/quant/find/blocks.ts'
import { biasSite, findMappings } from '../../../../src/quant/plan/mappings/mappings.ts'
import { type End, type Mapping } from '../../../../src/quant/plan/mappings/mapping.ts'
import { mappingErrors } from '../../../helpers/float64-block.ts'
import { processorMs } from '../../../helpers/processor-time.ts'

const TOKENS = 3
const HIDDEN = 8
const HEADS = 2
const HEAD_DIM = HIDDEN / HEADS
const ATTENTION = new Node('Attention', [], [])

/** Writes small decoders whose constants are random. */
class Decoder {
  readonly g = new RewriteBuilder(new Graph('test'))
  private readonly random = new Random(7)
  readonly x: Value = this.g.input('x', 'float32', [1, TOKENS, HIDDEN])

  constant(name: string, dims: readonly number[], around = 0): Value {
    const numbers = Float32Array.from({ length: elementCount(dims) }, () => around + this.random.next() - 0.5)
    return this.g.initializer(name, floatTensor(dims, numbers))
  }

  linear(x: Value, name: string, to: number = HIDDEN): Value {
    return this.g.matMul(x, this.constant(name, [x.shape!.at(-1) as number, to]))
  }

  biased(x: Value, name: string, to: number = HIDDEN): Value {
    return this.g.add(this.linear(x, name, to), this.constant(`${name}.bias`, [to]))
  }

  norm(x: Value, name: string, gain: readonly number[] | undefined = [HIDDEN]): Value {
    return rmsNorm(this.g, x, gain && this.constant(`${name}.weight`, gain, 1), 1e-5)
  }

  layerNorm(x: Value, name: string): Value {
    return this.g.add(this.norm(x, name), this.constant(`${name}.bias`, [HIDDEN]))
  }

  heads(x: Value, heads: number = HEADS): Value {
    return this.g.transpose(this.g.reshape(x, [1, TOKENS, heads, -1]), [0, 2, 1, 3])
  }

  attention(q: Value, k: Value, v: Value, sink?: Value): Value {
    const y = attend(this.g, ATTENTION, { q, k, v, scale: 0.5, softcap: 0, masks: [], sink })
    return this.g.reshape(this.g.transpose(y, [0, 2, 1, 3]), [1, TOKENS, -1])
  }

  /** x -> x + o(attention(q, k, v)) with plain heads. */
  plainAttention(x: Value, normed: Value): Value {
    const [q, k, v] = ['q', 'k', 'v'].map(name => this.heads(this.linear(normed, name))) as [Value, Value, Value]
    return this.g.add(x, this.linear(this.attention(q, k, v), 'o'))
  }

  /** The first block of a model that ends in a head. */
  block(output: Value, count = 1): Block {
    this.g.output(this.linear(this.g.op('Tanh', [output]), 'head', 20))
    for (const node of this.g.graph.nodes) node.origin = node
    const blocks = findBlocks(this.g.graph)
    expect(blocks.length).toBe(count)
    return blocks[0]!
  }
}

const find = (
  write: (decoder: Decoder) => Value,
  count = 1,
): { block: Block; mappings: Mapping[]; skipped: string[] } => {
  const decoder = new Decoder()
  const block = decoder.block(write(decoder), count)
  const { mappings, skipped } = findMappings(block)
  return { block, mappings, skipped: skipped.map(({ at, reason }) => `${at}: ${reason}`) }
}

const summary = (mappings: readonly Mapping[]): string[] =>
  mappings.map(({ name, size, shift }) => `${name} ${size}${shift ? ' +' : ''}`)

const scalesOf = (ends: readonly End[]): number[][] => ends.map(({ scales }) => [...scales])

async function expectEquivalence(block: Block, mappings: readonly Mapping[]): Promise<void> {
  const { all, halves } = await mappingErrors(block, mappings)
  expect(all).toBeLessThan(1e-9)
  expect(Math.min(...halves)).toBeGreaterThan(1e-4)
}

describe('norms', () => {
  test('one norm for attention and MLP in parallel is one mapping of five linears', async () => {
    const { block, mappings, skipped } = find(d => {
      const n = d.layerNorm(d.x, 'ln')
      const mlp = d.linear(d.g.op('Relu', [d.linear(n, 'up', 12)]), 'down')
      return d.g.add(d.plainAttention(d.x, n), mlp)
    })
    expect(summary(mappings)).toEqual(['ln -> up, q, k, v 8 +', 'up -> down 12', 'q -> k 8', 'v -> o 8'])
    expect(skipped).toEqual([])
    await expectEquivalence(block, mappings)
  })

  test.each([
    [
      'the residual',
      (d: Decoder, n: Value) => d.g.add(d.plainAttention(d.x, n), n),
      /^ln -> q, k, v: Add "add.*" combines it with/,
    ],
    [
      'a router that is not quantized',
      (d: Decoder, n: Value) => {
        const gate = d.g.matMul(n, d.g.op('Exp', [d.constant('router', [HIDDEN, 1])]))
        return d.g.mul(d.plainAttention(d.x, n), gate)
      },
      /^ln -> q, k, v: MatMul "matMul.*" reads it, and is not a linear that is quantized/,
    ],
    [
      'an activation',
      (d: Decoder, n: Value) => d.g.add(d.plainAttention(d.x, n), d.g.op('Sigmoid', [n])),
      /^ln -> q, k, v: Sigmoid ".*" does not pass a scale on/,
    ],
  ])('a norm that is read by %s too is skipped', async (_, write, reason) => {
    const { block, mappings, skipped } = find(d => write(d, d.norm(d.x, 'ln')))
    expect(summary(mappings)).toEqual(['q -> k 8', 'v -> o 8'])
    expect(skipped).toEqual([expect.stringMatching(reason)])
    await expectEquivalence(block, mappings)
  })

  test('one number for all channels, or none, is no gain', () => {
    for (const gain of [[1], undefined]) {
      const { mappings, skipped } = find(d => {
        const n = rmsNorm(d.g, d.x, gain && d.constant('ln.weight', gain, 1), 1e-5)
        return d.plainAttention(d.x, n)
      })
      expect(summary(mappings)).toEqual(['q -> k 8', 'v -> o 8'])
      expect(skipped).toEqual([expect.stringMatching(/^-> q, k, v: what it reads, made by Mul ".*", has no gain/)])
    }
  })

  test('a shift does not pass what changes it: here a constant factor behind the bias', async () => {
    const { block, mappings } = find(d => d.plainAttention(d.x, d.g.scale(d.layerNorm(d.x, 'ln'), 2)))
    expect(summary(mappings)[0]).toBe('ln -> q, k, v 8')
    await expectEquivalence(block, mappings)
  })
})

describe('values', () => {
  const biasedValue = (d: Decoder, sink: boolean) => {
    const n = d.norm(d.x, 'ln')
    const [q, k] = [d.heads(d.linear(n, 'q')), d.heads(d.linear(n, 'k', HEAD_DIM), 1)]
    const v = d.heads(d.biased(n, 'v', HEAD_DIM), 1)
    const y = d.attention(q, k, v, sink ? d.constant('sink', [HEADS]) : undefined)
    return d.g.add(d.x, d.linear(y, 'o'))
  }

  test('a channel of a shared value head has one scale for all the rows of o that read it', async () => {
    const { block, mappings } = find(d => biasedValue(d, false))
    const value = mappings.find(({ kind }) => kind === 'value')!
    expect(summary([value])).toEqual(['v -> o 4 +'])
    expect(scalesOf(value.divided)).toEqual([
      [0, 1, 2, 3],
      [0, 1, 2, 3],
    ])
    expect(scalesOf(value.multiplied)).toEqual([[0, 1, 2, 3, 0, 1, 2, 3]])
    await expectEquivalence(block, mappings)
  })

  test('with a sink the probabilities do not sum to 1: scale, but no shift', async () => {
    const { block, mappings } = find(d => biasedValue(d, true))
    expect(summary(mappings.filter(({ kind }) => kind === 'value'))).toEqual(['v -> o 4'])
    await expectEquivalence(block, mappings)
  })

  test('keys that are values too are left alone', () => {
    const { mappings, skipped } = find(d => {
      const n = d.norm(d.x, 'ln')
      const kv = d.heads(d.linear(n, 'kv'))
      return d.g.add(d.x, d.linear(d.attention(d.heads(d.linear(n, 'q')), kv, kv), 'o'))
    })
    expect(summary(mappings)).toEqual(['ln -> kv, q 8'])
    expect(skipped).toEqual([expect.stringMatching(/its channels are read by linears and by the scores of attention/)])
  })
})

describe('queries and keys', () => {
  const rotated = (d: Decoder, width: number, interleaved: boolean) => {
    const n = d.norm(d.x, 'ln')
    const [cos, sin] = ['cos', 'sin'].map(name => d.constant(name, [TOKENS, width / 2])) as [Value, Value]
    const tables = rotaryTables(d.g, { cos, sin }, HEAD_DIM, interleaved, 'BNSH')
    const [q, k] = ['q', 'k'].map(name => rotate(d.g, d.heads(d.linear(n, name)), tables)) as [Value, Value]
    return d.g.add(d.x, d.linear(d.attention(q, k, d.heads(d.linear(n, 'v'))), 'o'))
  }

  test.each([
    ['halves', HEAD_DIM, false, [0, 1, 0, 1, 2, 3, 2, 3]],
    ['neighbours', HEAD_DIM, true, [0, 0, 1, 1, 2, 2, 3, 3]],
    ['a part of the head', 2, false, [0, 0, 1, 2, 3, 3, 4, 5]],
  ])('rotary embedding of %s ties the channels of a pair', async (_, width, interleaved, scales) => {
    const { block, mappings } = find(d => rotated(d, width, interleaved))
    const { divided, multiplied } = mappings.find(({ kind }) => kind === 'query-key')!
    expect(scalesOf(divided)).toEqual([scales])
    expect(scalesOf(multiplied)).toEqual([scales])
    await expectEquivalence(block, mappings)
  })

  const normed = (d: Decoder, gain: readonly number[] | undefined) => {
    const n = d.norm(d.x, 'ln')
    const [q, k] = ['q', 'k'].map(name =>
      rmsNorm(d.g, d.heads(d.linear(n, name)), gain && d.constant(`${name}_norm.weight`, gain, 1), 1e-5),
    ) as [Value, Value]
    return d.g.add(d.x, d.linear(d.attention(q, k, d.heads(d.linear(n, 'v'))), 'o'))
  }

  test('gains behind per-head norms take the scale, shared by the heads', async () => {
    const { block, mappings } = find(d => normed(d, [HEAD_DIM]))
    const { name, divided, multiplied } = mappings.find(({ kind }) => kind === 'query-key')!
    expect(name).toBe('q_norm -> k_norm')
    expect([...divided, ...multiplied].map(({ kind, scales }) => [kind, ...scales])).toEqual([
      ['vector', 0, 1, 2, 3],
      ['vector', 0, 1, 2, 3],
    ])
    await expectEquivalence(block, mappings)
  })

  test('norms without gain leave nothing to scale', () => {
    const { mappings, skipped } = find(d => normed(d, undefined))
    expect(mappings.map(({ kind }) => kind)).toEqual(['norm', 'value'])
    expect(skipped).toEqual([expect.stringMatching(/^q -> k: Mul ".*" multiplies it with itself/)])
  })

  test('a constant that differs from token to token cannot be scaled with a channel', () => {
    const { mappings, skipped } = find(d => {
      const n = d.norm(d.x, 'ln')
      const q = d.heads(d.g.add(d.linear(n, 'q'), d.constant('positions', [TOKENS, HIDDEN])))
      return d.g.add(d.x, d.linear(d.attention(q, d.heads(d.linear(n, 'k')), d.heads(d.linear(n, 'v'))), 'o'))
    })
    expect(mappings.map(({ kind }) => kind)).toEqual(['norm', 'value'])
    expect(skipped).toEqual([expect.stringMatching(/^q -> k: Add ".*" adds a constant to it that is not one number/)])
  })

  test('a bias shared by the heads ties them', async () => {
    const { block, mappings } = find(d => {
      const n = d.norm(d.x, 'ln')
      const q = d.g.add(d.heads(d.linear(n, 'q')), d.constant('bias', [HEAD_DIM]))
      return d.g.add(d.x, d.linear(d.attention(q, d.heads(d.linear(n, 'k')), d.heads(d.linear(n, 'v'))), 'o'))
    })
    const { divided } = mappings.find(({ kind }) => kind === 'query-key')!
    expect(scalesOf(divided)).toEqual([
      [0, 1, 2, 3, 0, 1, 2, 3],
      [0, 1, 2, 3],
    ])
    await expectEquivalence(block, mappings)
  })
})

test('queries that meet what has no channels of its own are left alone', () => {
  const { mappings, skipped } = find(d => {
    const n = d.norm(d.x, 'ln')
    const keys = d.heads(d.g.op('Softmax', [d.x]))
    return d.g.add(d.x, d.linear(d.attention(d.heads(d.linear(n, 'q')), keys, d.heads(d.linear(n, 'v'))), 'o'))
  })
  expect(summary(mappings)).toEqual(['ln -> q, v 8', 'v -> o 8'])
  expect(skipped).toEqual([expect.stringMatching(/^q ->: MatMul ".*" sums over its channels/)])
})

describe('up and down', () => {
  const mlp = (write: (d: Decoder, n: Value) => Value) =>
    find(d => {
      const h = d.plainAttention(d.x, d.norm(d.x, 'ln1'))
      return d.g.add(h, d.linear(write(d, d.norm(h, 'ln2')), 'down'))
    })
  const upDown = ({ mappings }: { mappings: Mapping[] }) => mappings.filter(({ kind }) => kind === 'up-down')

  test('of a fused gate and up product only the columns of up are divided', async () => {
    const found = mlp((d, n) => {
      const [gate, up] = d.g.ops('Split', [d.biased(n, 'gate_up', 20), d.g.ints([10, 10])], 2, { axis: -1 })
      return d.g.mul(d.g.mul(gate!, d.g.op('Sigmoid', [gate!])), up!)
    })
    const [mapping] = upDown(found)
    expect(summary([mapping!])).toEqual(['gate_up -> down 10'])
    const own = [...Array<number>(10).fill(-1), ...Array(10).keys()]
    expect(scalesOf(mapping!.divided)).toEqual([own, own])
    await expectEquivalence(found.block, found.mappings)
  })

  test('a product of two linears has one scale per channel, not two', async () => {
    const found = mlp((d, n) => d.g.mul(d.linear(n, 'a', 10), d.linear(n, 'b', 10)))
    expect(summary(upDown(found))).toEqual(['a -> down 10'])
    await expectEquivalence(found.block, found.mappings)
  })

  test.each([
    [
      'Relu squared',
      (d: Decoder, x: Value) => {
        const r = d.g.op('Relu', [x])
        return d.g.mul(r, r)
      },
      /^up -> down: Mul .* itself/,
    ],
    [
      'Gelu',
      (d: Decoder, x: Value) => d.g.mul(x, d.g.op('Tanh', [x])),
      /^up -> down: Tanh .* does not pass a scale on/,
    ],
    ['a softcap', (d: Decoder, x: Value) => d.g.op('Tanh', [x]), /^up -> down: Tanh/],
    ['a quotient', (d: Decoder, x: Value) => d.g.op('Reciprocal', [x]), /^up -> down: Reciprocal/],
    ['one added to it', (d: Decoder, x: Value) => d.g.shift(x, 1), /^up -> down: Add .* not one number per channel/],
  ])('%s in between is a reason to skip it', (_, activation, reason) => {
    const found = mlp((d, n) => activation(d, d.linear(n, 'up', 10)))
    expect(upDown(found)).toEqual([])
    expect(found.skipped).toEqual([expect.stringMatching(reason)])
  })

  test('channels may be moved about on the way', async () => {
    const found = mlp((d, n) => {
      const up = d.g.op('Relu', [d.linear(n, 'up', 12)])
      const turned = d.g.transpose(d.g.reshape(up, [1, TOKENS, 3, 4]), [0, 1, 3, 2])
      const shuffled = d.g.op('Gather', [d.g.reshape(turned, [1, TOKENS, 12]), d.g.ints([11, 0, 5, 5, 2, -1])], {
        axis: 2,
      })
      return d.g.concat([d.g.slice(shuffled, 2, 5, -7, -2), shuffled], 2)
    })
    const [mapping] = upDown(found)
    // Channels 11, 0, 5 and 2 of the turned order; the others are not read.
    expect(mapping!.size).toBe(4)
    await expectEquivalence(found.block, found.mappings)
  })
})

test('a norm that ends a block is left alone: the next block and its residual read it', async () => {
  const { block, mappings, skipped } = find(d => {
    let h = d.x
    for (let layer = 0; layer < 2; layer++) {
      const mixed = d.plainAttention(h, d.norm(h, 'ln1'))
      h = d.norm(d.g.add(mixed, d.linear(d.g.op('Relu', [d.linear(mixed, 'up')]), 'down')), 'ln2')
    }
    return h
  }, 2)
  expect(block.output.producer!.inputs[1]!.name).toBe('ln2.weight')
  expect(summary(mappings)).toEqual(['ln1 -> q, k, v 8', 'q -> k 8', 'v -> o 8', 'up -> down 8'])
  expect(skipped).toEqual([expect.stringMatching(/^-> up: what it reads, made by Add/)])
  await expectEquivalence(block, mappings)
})

test('columns that go into the output of a block are left alone', () => {
  const { mappings, skipped } = find(d => {
    let h = d.x
    for (let layer = 0; layer < 2; layer++) {
      const y = d.linear(d.plainAttention(h, d.norm(h, 'ln')), 'y')
      h = d.g.mul(y, d.g.op('Sigmoid', [d.linear(y, 'gate')]))
    }
    return h
  }, 2)
  expect(summary(mappings)).toEqual(['ln -> q, k, v 8', 'q -> k 8', 'v -> o 8'])
  expect(skipped).toEqual([
    'y -> gate: it is what the block gives to the next one',
    expect.stringMatching(/^-> y: what it reads, made by Add/),
  ])
})

describe('biasSite', () => {
  const siteOf = (write: (d: Decoder, product: Value) => Value) => {
    const d = new Decoder()
    const h = d.plainAttention(d.x, d.norm(d.x, 'ln'))
    const block = d.block(d.g.add(h, write(d, d.linear(h, 'last'))))
    return biasSite(block.linears.at(-1)!, block)
  }

  test('is where a vector is added to the product, on either side', () => {
    expect(siteOf((d, y) => d.g.add(y, d.constant('bias', [HIDDEN])))?.input).toBe(1)
    const site = siteOf((d, y) => d.g.add(d.constant('bias', [1, 1, HIDDEN]), y))
    expect(site?.node.inputs[site.input]?.name).toBe('bias')
    expect(site?.input).toBe(0)
  })

  test.each([
    ['nothing is added', (_: Decoder, y: Value) => y],
    ['one number is', (d: Decoder, y: Value) => d.g.shift(y, 1)],
    ['the constant has a row per token', (d: Decoder, y: Value) => d.g.add(y, d.constant('b', [TOKENS, HIDDEN]))],
    ['the product is read twice', (d: Decoder, y: Value) => d.g.add(d.g.add(y, d.constant('b', [HIDDEN])), d.g.neg(y))],
    ['it is subtracted', (d: Decoder, y: Value) => d.g.sub(y, d.constant('b', [HIDDEN]))],
  ])('is absent where %s', (_, write) => {
    expect(siteOf(write)).toBeUndefined()
  })
})

test('tiny-llama: every block has all mappings of a Llama, and computes the same with them', async () => {
  const { blocks } = await analyze(resolve(import.meta.dirname, '../../../../fixtures/tiny-llama'), 8)
  for (const block of blocks) {
    const { mappings, skipped } = findMappings(block)
    expect(summary(mappings)).toEqual([
      'input_layernorm -> q_proj, k_proj, v_proj 64',
      'q_proj -> k_proj 16',
      'v_proj -> o_proj 32',
      'post_attention_layernorm -> gate_proj, up_proj 64',
      'up_proj -> down_proj 160',
    ])
    expect(skipped).toEqual([])
    await expectEquivalence(block, mappings)
  }
})

test('a block of the size of Llama 8B with 2048 tokens takes well under a second, and its weights are not read', () => {
  const [hidden, heads, kvHeads, headDim, ffn, tokens] = [4096, 32, 8, 128, 14336, 2048]
  const g = new RewriteBuilder(new Graph('large'))
  const x = g.input('x', 'float32', [1, tokens, hidden])
  const weight = (rows: number, cols: number): Value => {
    const data = { file: '/nowhere/model.onnx', offset: 0, length: 4 * rows * cols }
    return g.initializer('w', { dtype: 'float32', dims: [rows, cols], data } satisfies Tensor)
  }
  const norm = (h: Value) => rmsNorm(g, h, g.initializer('gain', floatTensor([hidden], new Float32Array(hidden))), 1e-5)
  const half = (name: string) => g.initializer(name, floatTensor([tokens, headDim / 2], new Float32Array(tokens * 64)))
  const tables = rotaryTables(g, { cos: half('cos'), sin: half('sin') }, headDim, false, 'BNSH')
  const split = (y: Value, count: number) => g.transpose(g.reshape(y, [1, tokens, count, headDim]), [0, 2, 1, 3])
  const n = norm(x)
  const q = rotate(g, split(g.matMul(n, weight(hidden, hidden)), heads), tables)
  const k = rotate(g, split(g.matMul(n, weight(hidden, kvHeads * headDim)), kvHeads), tables)
  const v = split(g.matMul(n, weight(hidden, kvHeads * headDim)), kvHeads)
  const y = attend(g, ATTENTION, { q, k, v, scale: 1, softcap: 0, masks: [] })
  const mixed = g.reshape(g.transpose(y, [0, 2, 1, 3]), [1, tokens, hidden])
  const h = g.add(x, g.matMul(mixed, weight(hidden, hidden)))
  const m = norm(h)
  const gate = g.matMul(m, weight(hidden, ffn))
  const up = g.mul(g.mul(gate, g.op('Sigmoid', [gate])), g.matMul(m, weight(hidden, ffn)))
  g.output(g.matMul(g.op('Tanh', [g.add(h, g.matMul(up, weight(ffn, hidden)))]), weight(hidden, 100)))
  for (const node of g.graph.nodes) node.origin = node
  const [block] = findBlocks(g.graph)
  let mappings: readonly Mapping[] = []
  const took = processorMs(() => ({ mappings } = findMappings(block!)))
  expect(took).toBeLessThan(2000)
  expect(mappings.map(({ kind, size }) => `${kind} ${size}`)).toEqual([
    'norm 4096',
    'query-key 512',
    'value 1024',
    'norm 4096',
    'up-down 14336',
  ])
})
