/** @file lm_head and embeddings are found by what they do, in whatever form a file has them; and what is planned for them. */

import { describe, expect, test } from 'vitest'
import { Graph, type Model, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { normalize } from '../../../src/graph/passes/normalize.ts'
import { int64Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { toFloat16Bits } from '../../../src/kernels/float16.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { findEmbeddings, isTied } from '../../../src/quant/find/embeddings.ts'
import { embeddingReports, planEmbeddings } from '../../../src/quant/plan/plan-embeddings.ts'
import { noise } from '../../kernels/weights.ts'

const [V, D, T] = [40, 32, 5]

/** A model without blocks under construction: ids [1, T] -> logits. */
class Toy {
  readonly model: Model
  readonly ids: Value
  private count = 0

  constructor(idType: 'int64' | 'int32' = 'int64') {
    this.model = newModel(new Graph('toy'), 17)
    this.ids = new Value('input_ids', idType, [1, T])
    this.model.graph.inputs.push(this.ids)
  }

  weight(name: string, dims: readonly number[], dtype: 'float32' | 'float16' = 'float32'): Value {
    const numbers = noise(
      dims.reduce((a, b) => a * b),
      name.length,
    )
    const tensor = dtype === 'float32' ? tensorOf(dtype, dims, numbers) : tensorOf(dtype, dims, toFloat16Bits(numbers))
    return this.initializer(name, tensor)
  }

  initializer(name: string, tensor: ReturnType<typeof tensorOf>): Value {
    const value = new Value(name, tensor.dtype, tensor.dims, tensor)
    this.model.graph.initializers.push(value)
    return value
  }

  op(opType: string, inputs: Value[], attributes: Record<string, number> = {}, name?: string): Value {
    const output = new Value(`v${this.count++}`)
    const entries = Object.entries(attributes).map(([key, value]) => [key, { type: 'int', value } as const] as const)
    this.model.graph.nodes.push(new Node(opType, inputs, [output], new Map(entries), '', name ?? output.name))
    return output
  }

  async outer(logits: Value) {
    logits.dtype = 'float32'
    this.model.graph.outputs.push(logits)
    const { graph: working } = await normalize(this.model, {
      fixedInputs: new Map(),
      shapes: new Map([['input_ids', [1, T]]]),
      outputs: [logits.name],
      evaluate: graph => runGraph(graph, {}, { optimization: 'disabled' }),
    })
    const analysis = { model: this.model, working, blocks: [] }
    return { ...findEmbeddings(analysis), analysis }
  }
}

/** The usual table and head. */
const embed = (toy: Toy, table = toy.weight('embed.weight', [V, D])): Value =>
  toy.op('Gather', [table, toy.ids], {}, '/model/embed_tokens/Gather')
const head = (toy: Toy, x: Value, weight = toy.weight('head.weight', [D, V])): Value =>
  toy.op('MatMul', [x, weight], {}, '/lm_head/MatMul')

describe('found are', () => {
  test('a table and a product, of two tensors', async () => {
    const toy = new Toy()
    const { lmHead, embeddings } = await toy.outer(head(toy, embed(toy)))
    const sizes = { inFeatures: D, outFeatures: V }
    expect(lmHead).toMatchObject({ name: 'lm_head', transposed: false, ...sizes })
    expect(embeddings).toMatchObject([{ name: 'embed_tokens', transposed: true, ...sizes }])
    const [table] = embeddings as Extract<typeof embeddings, readonly unknown[]>
    expect(isTied(lmHead, table!)).toBe(false)
  })

  test.each<[string, (toy: Toy) => Value]>([
    [
      'through Transpose',
      toy => {
        const table = toy.weight('table', [V, D])
        return head(toy, embed(toy, table), toy.op('Transpose', [table]))
      },
    ],
    [
      'by a Gemm between Reshapes',
      toy => {
        const table = toy.weight('table', [V, D])
        const flat = toy.op('Reshape', [embed(toy, table), toy.initializer('flat', int64Tensor([2], [-1, D]))])
        const gemm = toy.op('Gemm', [flat, table, toy.weight('bias', [V])], { transB: 1 }, '/lm_head/Gemm')
        return toy.op('Reshape', [gemm, toy.initializer('shape', int64Tensor([3], [1, T, V]))])
      },
    ],
    [
      'the table being the Transpose',
      toy => {
        const weight = toy.weight('weight', [D, V])
        return head(toy, embed(toy, toy.op('Transpose', [weight])), weight)
      },
    ],
    [
      'in float16, behind Casts',
      toy => {
        const table = toy.weight('table', [V, D], 'float16')
        const half = toy.op('MatMul', [embed(toy, table), toy.op('Transpose', [table])], {}, '/lm_head/MatMul')
        return toy.op('Cast', [half], { to: 1 })
      },
    ],
  ])('one tensor that is both, %s', async (_, build) => {
    const toy = new Toy()
    const { lmHead, embeddings } = await toy.outer(build(toy))
    expect([lmHead, embeddings]).toMatchObject([{ name: 'lm_head' }, [{ name: 'embed_tokens' }]])
    const [table] = embeddings as Extract<typeof embeddings, readonly unknown[]>
    expect(isTied(lmHead, table!)).toBe(true)
    expect(table).toMatchObject({ inFeatures: D, outFeatures: V })
  })

  test('ids in another shape and type, a soft cap behind the product, the last token only', async () => {
    const toy = new Toy('int32')
    const flat = toy.op('Reshape', [toy.op('Cast', [toy.ids], { to: 7 }), toy.initializer('n', int64Tensor([1], [-1]))])
    const rows = toy.op('Gather', [toy.weight('embed.weight', [V, D]), flat], {}, '/model/embed_tokens/Gather')
    const cap = toy.initializer('cap', tensorOf('float32', [], Float32Array.of(30)))
    const product = head(toy, rows)
    const { lmHead, embeddings } = await toy.outer(
      toy.op('Mul', [toy.op('Tanh', [toy.op('Div', [product, cap])]), cap]),
    )
    expect([lmHead, embeddings]).toMatchObject([{ name: 'lm_head' }, [{ name: 'embed_tokens' }]])
  })

  test('a table that is looked up twice, once', async () => {
    const toy = new Toy()
    const table = toy.weight('embed.weight', [V, D])
    const sum = toy.op('Add', [embed(toy, table), toy.op('Neg', [embed(toy, table)])])
    const { embeddings } = await toy.outer(head(toy, sum))
    expect(embeddings).toHaveLength(1)
  })
})

describe('not found, with the reason, are', () => {
  test.each<[string, (toy: Toy) => Value, string]>([
    [
      'logits that are a sum of two',
      toy => {
        const x = embed(toy)
        return toy.op('Add', [head(toy, x), head(toy, x, toy.weight('other', [D, V]))])
      },
      'no product with a stored weight makes the logits',
    ],
    [
      'a weight of another shape',
      toy => {
        const x = embed(toy)
        const weight = toy.op('Reshape', [toy.weight('w', [V, D]), toy.initializer('shape', int64Tensor([2], [D, V]))])
        return head(toy, x, weight)
      },
      'its weight is reshaped from [40, 32] before use',
    ],
    [
      'a weight that is the first operand',
      toy => {
        const columns = toy.op('Reshape', [embed(toy), toy.initializer('turned', int64Tensor([2], [D, T]))])
        return toy.op('MatMul', [toy.weight('w', [V, D]), columns])
      },
      'its weight is the first operand',
    ],
  ])('%s', async (_, build, reason) => {
    const toy = new Toy()
    const { lmHead, analysis } = await toy.outer(build(toy))
    expect(lmHead).toMatchObject({ reason })
    expect(() => planEmbeddings(analysis, { lmHead: 8 }, false)).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: `\`lmHead\`: ${reason}` }),
    )
    expect(planEmbeddings(analysis, { embedding: 8 }, false).jobs.length).toBe(1)
  })

  test.each<[string, (toy: Toy) => Value, string]>([
    [
      'a table with tokens in columns',
      toy => {
        const columns = toy.op('Gather', [toy.weight('table', [D, V]), toy.ids], { axis: 1 })
        return toy.op('Reshape', [columns, toy.initializer('shape', int64Tensor([3], [1, T, D]))])
      },
      'its table has tokens in columns',
    ],
    [
      'no lookup at all',
      toy => {
        const x = toy.op('Unsqueeze', [
          toy.op('Cast', [toy.ids], { to: 1 }),
          toy.initializer('last', int64Tensor([1], [-1])),
        ])
        return toy.op('MatMul', [x, toy.weight('up', [1, D])])
      },
      'no table is looked up by the token ids',
    ],
    [
      'a lookup by something computed from the ids',
      toy => {
        const one = toy.initializer('one', int64Tensor([], [1]))
        return toy.op('Gather', [toy.weight('table', [V, D]), toy.op('Sub', [toy.ids, one])])
      },
      'no table is looked up by the token ids',
    ],
  ])('%s', async (_, build, reason) => {
    const toy = new Toy()
    const { embeddings, analysis } = await toy.outer(head(toy, build(toy)))
    expect(embeddings).toMatchObject({ reason })
    expect(() => planEmbeddings(analysis, { embedding: 4 }, false)).toThrow(
      expect.objectContaining({ code: 'E_UNSUPPORTED', message: `\`embedding\`: ${reason}` }),
    )
    expect(planEmbeddings(analysis, { lmHead: 4 }, false).jobs.length).toBe(1)
  })
})

describe('planned', () => {
  /** A tied decoder with rows of `width`. */
  async function tied(width: number) {
    const toy = new Toy()
    const table = toy.weight('table', [V * 2, width])
    const rows = embed(toy, table)
    const { analysis } = await toy.outer(head(toy, rows, toy.op('Transpose', [table])))
    return analysis
  }
  const roles = (plan: ReturnType<typeof planEmbeddings>) =>
    embeddingReports(plan).map(({ role, bits, group }) => `${role} ${bits} ${group}`)

  test.each([
    [64, { lmHead: 4, embedding: 4 }, ['lm_head+embedding 4 32'], ''],
    [48, { lmHead: 8, embedding: 8 }, ['lm_head+embedding 8 16'], ''],
    // Blocks of MatMulNBits are padded, rows of a table are not.
    [40, { lmHead: 4, embedding: 4 }, ['lm_head 4 32', 'embedding 4 32'], ''],
    [64, { lmHead: 4, embedding: 8 }, ['lm_head 4 32', 'embedding 8 32'], 'in different bits they are stored twice'],
    [64, { lmHead: 4 }, ['lm_head 4 32'], 'quantizing only lm_head'],
    [64, { embedding: 2 }, ['embedding 2 32'], 'quantizing only the embedding'],
    [64, {}, [], ''],
  ] as const)('a tied pair with rows of %i, %o', async (width, options, expected, note) => {
    const plan = planEmbeddings(await tied(width), options, false)
    expect(roles(plan)).toEqual(expected)
    if (note === '') expect(plan.notes).toEqual([])
    else expect(plan.notes).toEqual([expect.stringContaining(note)])
  })

  test('nothing that does not fill bytes', async () => {
    const analysis = await tied(33)
    expect(() => planEmbeddings(analysis, { embedding: 4 }, false)).toThrow(
      expect.objectContaining({
        code: 'E_UNSUPPORTED',
        message: '`embedding: 4`: rows of 33 elements of "embed_tokens" do not fill bytes with 4 bits each',
      }),
    )
    expect(roles(planEmbeddings(analysis, { embedding: 8, lmHead: 4 }, false)).length).toBe(2)
  })

  test('scales of the type of the weight, zero points unless symmetric', async () => {
    const toy = new Toy()
    const rows = embed(toy, toy.weight('table', [V, D], 'float16'))
    const { analysis } = await toy.outer(
      toy.op('Cast', [head(toy, rows, toy.weight('w', [D, V], 'float16'))], { to: 1 }),
    )
    for (const symmetric of [false, true]) {
      const { jobs } = planEmbeddings(analysis, { embedding: 8, lmHead: 4 }, symmetric)
      for (const { quantizer } of jobs) expect(quantizer).toMatchObject({ scaleDtype: 'float16', symmetric })
    }
  })

  test('the same in every branch that multiplies with the weight', async () => {
    const toy = new Toy()
    const weight = toy.weight('head.weight', [D, V])
    const { analysis } = await toy.outer(head(toy, embed(toy), weight))
    const [x] = analysis.model.graph.nodes.at(-1)!.inputs as [Value]
    const body = new Graph('body')
    const other = new Node('MatMul', [x, weight], [new Value('again')], new Map(), '', 'again')
    body.nodes.push(other)
    toy.model.graph.nodes.push(
      new Node('If', [toy.ids], [new Value('x')], new Map([['then_branch', { type: 'graph', value: body }]])),
    )
    expect(planEmbeddings(analysis, { lmHead: 4 }, false).jobs[0]!.lmHead!.otherBranch).toEqual([other])
  })
})

describe('weights that only a target asks for', () => {
  const BOTH = ['lmHead', 'embedding'] as const

  test('stay float where they are not found, and a note says why; the same wish of a user is refused', async () => {
    const toy = new Toy()
    const x = embed(toy)
    const logits = toy.op('Add', [head(toy, x), head(toy, x, toy.weight('second', [D, V]))])
    const { analysis } = await toy.outer(logits)
    const options = { lmHead: 4, embedding: 4 } as const
    const wish = planEmbeddings(analysis, { ...options, wherePossible: BOTH }, false)
    expect(embeddingReports(wish).map(({ role }) => role)).toEqual(['embedding'])
    expect(wish.notes).toEqual([expect.stringMatching(/^lm_head stays float: /)])
    expect(() => planEmbeddings(analysis, options, false)).toThrow()
  })

  test.each<[string, object, string[], RegExp | undefined]>([
    ['tied, both by the target', { lmHead: 4, embedding: 4, wherePossible: BOTH }, ['lm_head+embedding 4'], undefined],
    [
      'tied to a float lm_head',
      { embedding: 4, wherePossible: ['embedding'] },
      [],
      /^the embedding stays float: it is the same tensor as lm_head/,
    ],
    [
      'tied to an lm_head of other bits',
      { lmHead: 8, embedding: 4, wherePossible: ['embedding'] },
      ['lm_head+embedding 8'],
      undefined,
    ],
    [
      'tied, of other bits, both by the user',
      { lmHead: 8, embedding: 4 },
      ['lm_head 8', 'embedding 4'],
      /stored twice/,
    ],
  ])('%s', async (_, options, expected, note) => {
    const toy = new Toy()
    const table = toy.weight('table', [V, D])
    const { analysis } = await toy.outer(head(toy, embed(toy, table), toy.op('Transpose', [table])))
    const plan = planEmbeddings(analysis, options, false)
    expect(embeddingReports(plan).map(({ role, bits }) => `${role} ${bits}`)).toEqual(expected)
    expect(plan.notes).toEqual(note ? [expect.stringMatching(note)] : [])
  })
})
