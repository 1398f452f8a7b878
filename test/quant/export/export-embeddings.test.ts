/** @file Embeddings and lm_head in the user's graph, tied and not, compute with the numbers their codes stand for. */

import { describe, expect, test } from 'vitest'
import { Graph, Node, Value } from '../../../src/graph/ir.ts'
import { tensorOf } from '../../../src/graph/tensor.ts'
import { dequantize, quantizeWeight } from '../../../src/kernels/weights.ts'
import { roundToFloat16 } from '../../../src/kernels/float16.ts'
import type { WeightQuantizer } from '../../../src/kernels/qparams.ts'
import { transpose2d } from '../../../src/kernels/transpose.ts'
import { exportEmbeddings } from '../../../src/quant/export/export-embeddings.ts'
import type { Linear } from '../../../src/quant/find/linears.ts'
import type { EmbeddingJob } from '../../../src/quant/plan/plan-embeddings.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'
import { relativeError, runModel, UserGraph, type UserGraphOptions } from './user-graph.ts'

const folder = tempDir()
const V = 10
const IDS = [3, 0, 9, 3, 7]

/** Ways in which a head reads the table [V, D], or a weight of its own. */
type Head = 'transpose' | 'gemm' | 'own' | 'reversed'

/** embedding -> Neg -> lm_head; with 'reversed' the head's weight [D, V] is stored, and the table is its transpose. */
function decoder(D: number, head: Head, options: UserGraphOptions = {}) {
  const user = new UserGraph(options)
  const ids = new Value('ids', 'int64', ['n'])
  user.graph.inputs.push(ids)
  const table = noise(V * D, 5).map(roundToFloat16)
  const own = noise(V * D, 6).map(roundToFloat16)
  const transposed = (value: Value, name: string) => user.op('Transpose', [value], name)
  const stored =
    head === 'reversed'
      ? user.constant('table', [D, V], transpose2d(table, V, D))
      : user.constant('table', [V, D], table)
  const rows = head === 'reversed' ? transposed(stored, 'turned') : stored
  const embedded = user.op('Gather', [rows, ids], 'embed')
  user.output(embedded, 'rows')
  const hidden = user.op('Neg', [embedded], 'hidden')
  const weight = {
    transpose: () => transposed(stored, 'turned'),
    gemm: () => stored,
    own: () => user.constant('own', [D, V], transpose2d(own, V, D)),
    reversed: () => stored,
  }[head]()
  const bias = noise(V, 7).map(roundToFloat16)
  const logits =
    head === 'gemm'
      ? user.op('Gemm', [hidden, weight, user.constant('bias', [V], bias)], 'head', { transB: 1 })
      : user.op('MatMul', [hidden, weight], 'head')
  user.output(logits, 'logits')
  const made = (value: Value): Node => value.producer!
  const linear = (node: Node, weightValue: Value, isTransposed: boolean): Linear => ({
    ...{ name: node.name, node, origin: node, weight: weightValue, transposed: isTransposed },
    ...{ inFeatures: D, outFeatures: V },
  })
  return {
    ...{ user, table, own: head === 'own' ? own : table, bias: head === 'gemm' ? bias : undefined },
    embedding: linear(made(embedded), stored, head !== 'reversed'),
    lmHead: {
      ...linear(made(logits), head === 'own' ? weight : stored, head === 'transpose' || head === 'gemm'),
      otherBranch: [],
    },
  }
}

/** Rows [V, D] as their codes have them. */
function rounded(table: Float32Array, D: number, quantizer: WeightQuantizer): Float32Array {
  const w = transpose2d(table, V, D)
  return transpose2d(dequantize(quantizeWeight(w, D, V, quantizer), D, V, quantizer.group), D, V)
}

async function run(user: UserGraph) {
  const feeds = { ids: tensorOf('int64', [IDS.length], BigInt64Array.from(IDS, BigInt)) }
  const { rows, logits } = await runModel(user.model, feeds, folder)
  return { rows: rows!, logits: logits! }
}

/** Outputs of the model with these tables. */
function expected(D: number, table: Float32Array, head: Float32Array, bias: Float32Array | undefined) {
  const rows = Float32Array.from(IDS.flatMap(id => [...table.subarray(id * D, (id + 1) * D)]))
  const logits = IDS.flatMap((_, i) =>
    Array.from({ length: V }, (__, v) => {
      let sum = bias?.[v] ?? 0
      for (let k = 0; k < D; k++) sum -= rows[i * D + k]! * head[v * D + k]!
      return sum
    }),
  )
  return { rows, logits }
}

const OPTIONS = { accuracyLevel: 0, format: 'integer' } as const
const EXACT = 1e-6

describe('a decoder whose embedding and lm_head are quantized', () => {
  const quantizer = (bits: number, group: number, symmetric = false): WeightQuantizer => ({
    ...{ bits, group, symmetric, scaleDtype: 'float32' },
  })

  test.each<[Head, number, number, number, boolean]>([
    ['transpose', 64, 8, 32, false],
    ['transpose', 48, 4, 16, true],
    ['transpose', 32, 2, 32, false],
    ['gemm', 64, 4, 32, false],
    ['gemm', 96, 8, 32, true],
    ['reversed', 64, 8, 32, false],
    ['reversed', 64, 4, 32, true],
  ])('tied (%s), rows of %i, %i bits in groups of %i, symmetric %s: stored once', async (head, D, bits, group, sym) => {
    const { user, table, bias, embedding, lmHead } = decoder(D, head)
    const how = quantizer(bits, group, sym)
    exportEmbeddings(user.model, [{ quantizer: how, lmHead, embedding }], OPTIONS)
    const { rows, logits } = await run(user)
    const w = rounded(table, D, how)
    const want = expected(D, w, w, bias)
    expect(relativeError(rows, want.rows)).toBeLessThan(EXACT)
    expect(relativeError(logits, want.logits)).toBeLessThan(EXACT)
    const weights = user.graph.initializers.filter(({ name }) => name.includes('Q') || /scales|zero/.test(name))
    expect(weights.length).toBe(sym ? 2 : 3)
    expect(user.graph.initializers.some(({ name }) => name === 'table')).toBe(false)
    expect([user.count('MatMulNBits'), user.count('GatherBlockQuantized'), user.count('Transpose')]).toEqual([1, 1, 0])
  })

  test.each<[number, number, number]>([
    [64, 8, 4],
    [40, 4, 8],
    [200, 2, 4],
    [24, 4, 4],
    [12, 8, 2],
  ])('apart, rows of %i, embedding in %i bits, lm_head in %i', async (D, tableBits, headBits) => {
    const { user, table, own, embedding, lmHead } = decoder(D, 'own')
    const jobs: EmbeddingJob[] = [
      { quantizer: quantizer(tableBits, 32), embedding, lmHead: undefined },
      { quantizer: quantizer(headBits, 32), embedding: undefined, lmHead },
    ]
    exportEmbeddings(user.model, jobs, OPTIONS)
    const { rows, logits } = await run(user)
    const want = expected(D, rounded(table, D, jobs[0]!.quantizer), rounded(own, D, jobs[1]!.quantizer), undefined)
    expect(relativeError(rows, want.rows)).toBeLessThan(EXACT)
    expect(relativeError(logits, want.logits)).toBeLessThan(EXACT)
  })

  test.each<[string, boolean]>([
    ['embedding', true],
    ['lm_head', false],
  ])('tied, but only the %s: the other reads the float tensor', async (_, tableOnly) => {
    const D = 64
    const { user, table, embedding, lmHead } = decoder(D, 'transpose')
    const how = quantizer(8, 32)
    const job = tableOnly ? { embedding, lmHead: undefined } : { embedding: undefined, lmHead }
    exportEmbeddings(user.model, [{ quantizer: how, ...job }], OPTIONS)
    const { rows, logits } = await run(user)
    const w = rounded(table, D, how)
    const want = expected(D, tableOnly ? w : table, tableOnly ? table : w, undefined)
    expect(relativeError(rows, want.rows)).toBeLessThan(EXACT)
    expect(relativeError(logits, want.logits)).toBeLessThan(EXACT)
    expect(user.graph.initializers.some(({ name }) => name === 'table')).toBe(true)
  })

  test.each([true, false])('in float16, types known: %s', async typed => {
    const D = 64
    const { user, table, embedding, lmHead } = decoder(D, 'transpose', { dtype: 'float16', typed })
    const how: WeightQuantizer = { ...quantizer(8, 32), scaleDtype: 'float16' }
    exportEmbeddings(user.model, [{ quantizer: how, lmHead, embedding }], OPTIONS)
    const { rows, logits } = await run(user)
    const w = rounded(table, D, how)
    const want = expected(D, w.map(roundToFloat16), w, undefined)
    expect(relativeError(rows, want.rows)).toBeLessThan(EXACT)
    expect(relativeError(logits, want.logits)).toBeLessThan(1e-3)
    expect(user.count('Cast')).toBe(2) // those of the outputs
  })

  test.each(['operator', 'standard'] as const)(
    'every lookup in the table is replaced, in bodies too: %s',
    async lookup => {
      const D = 32
      const { user, table, embedding, lmHead } = decoder(D, 'own')
      const [stored, ids] = embedding.origin.inputs as [Value, Value]
      const body = (name: string) => {
        const graph = new Graph(name)
        const found = new Value(`${name}_rows`, 'float32')
        graph.nodes.push(new Node('Gather', [stored, ids], [found], new Map(), '', `${name}_embed`))
        graph.outputs.push(found)
        return { type: 'graph', value: graph } as const
      }
      const yes = new Value('yes', 'bool', [], tensorOf('bool', [], Uint8Array.of(1)))
      user.graph.initializers.push(yes)
      const branches = new Map([
        ['then_branch', body('then')],
        ['else_branch', body('else')],
      ])
      const again = new Value('again', 'float32')
      user.graph.nodes.push(new Node('If', [yes], [again], branches, '', 'branch'))
      user.output(again, 'branch_rows')
      const how = quantizer(4, 32)
      exportEmbeddings(user.model, [{ quantizer: how, lmHead: undefined, embedding }], { ...OPTIONS, lookup })
      const feeds = { ids: tensorOf('int64', [IDS.length], BigInt64Array.from(IDS, BigInt)) }
      const results = await runModel(user.model, feeds, folder)
      const want = expected(D, rounded(table, D, how), table, undefined)
      for (const name of ['rows', 'branch_rows'])
        expect(relativeError(results[name]!, want.rows), name).toBeLessThan(EXACT)
      expect(user.graph.initializers.some(({ name }) => name === 'table')).toBe(false)
      expect(user.graph.initializers.filter(({ name }) => name.startsWith('table_')).length).toBe(3)
      expect(lmHead.origin.inputs[1]!.name).toBe('own')
    },
  )

  const STANDARD = { ...OPTIONS, lookup: 'standard' } as const
  const foreign = (user: UserGraph) =>
    user.graph.nodes.filter(({ domain }) => domain !== '').map(({ opType }) => opType)

  test.each<[number, number, number, boolean, 'float32' | 'float16']>([
    [64, 8, 32, false, 'float32'],
    [64, 4, 32, false, 'float32'],
    [64, 2, 32, false, 'float32'],
    [64, 4, 16, true, 'float32'],
    [40, 4, 32, false, 'float32'], // the last block is short
    [200, 2, 32, true, 'float32'],
    [24, 8, 32, false, 'float32'], // rows are narrower than a block
    [96, 4, 32, false, 'float16'],
    [64, 8, 32, true, 'float16'],
  ])(
    'rows of %i, %i bits in groups of %i, symmetric %s, %s: standard operators give the numbers of GatherBlockQuantized',
    async (D, bits, group, sym, dtype) => {
      const how: WeightQuantizer = { ...quantizer(bits, group, sym), scaleDtype: dtype }
      const results = []
      for (const options of [OPTIONS, STANDARD]) {
        const { user, embedding } = decoder(D, 'own', { dtype })
        exportEmbeddings(user.model, [{ quantizer: how, lmHead: undefined, embedding }], options)
        results.push((await run(user)).rows)
        const codes = user.graph.initializers.find(({ name }) => name === `table_Q${bits}`)!
        expect([codes.dtype, codes.shape]).toEqual(['uint8', [V, (D * bits) / 8]])
        expect(foreign(user)).toEqual(options === OPTIONS ? ['GatherBlockQuantized'] : [])
        // No node but a lookup reads the table: nothing can be folded when the model is loaded.
        const readers = user.graph.nodes.filter(({ inputs }) => inputs.includes(codes))
        expect(readers.map(({ inputs }) => inputs.some(input => input?.name === 'ids'))).toEqual([true])
      }
      expect(results[1]).toEqual(results[0])
    },
  )

  test('ids of more dimensions keep their shape in a lookup by standard operators', async () => {
    const user = new UserGraph()
    const ids = new Value('ids', 'int64', ['batch', 'tokens'])
    user.graph.inputs.push(ids)
    const D = 32
    const stored = user.constant('table', [V, D], noise(V * D, 5))
    const embedded = user.op('Gather', [stored, ids], 'embed')
    user.output(embedded, 'rows')
    const node = embedded.producer!
    const embedding = {
      name: 'embed',
      node,
      origin: node,
      weight: stored,
      transposed: true,
      inFeatures: D,
      outFeatures: V,
    }
    exportEmbeddings(user.model, [{ quantizer: quantizer(4, 16), lmHead: undefined, embedding }], STANDARD)
    const feeds = { ids: tensorOf('int64', [2, 3], BigInt64Array.from([3, 0, 9, 3, 7, 1], BigInt)) }
    const { rows } = await runModel(user.model, feeds, folder)
    const w = rounded(noise(V * D, 5), D, quantizer(4, 16))
    expect(
      relativeError(rows!, Float32Array.from([3, 0, 9, 3, 7, 1].flatMap(id => [...w.subarray(id * D, id * D + D)]))),
    ).toBeLessThan(EXACT)
  })

  test('tied, the table looked up by standard operators: stored once', async () => {
    const [D, how] = [64, quantizer(4, 32)]
    const { user, table, embedding, lmHead } = decoder(D, 'transpose')
    exportEmbeddings(user.model, [{ quantizer: how, lmHead, embedding }], STANDARD)
    const { rows, logits } = await run(user)
    const w = rounded(table, D, how)
    const want = expected(D, w, w, undefined)
    expect(relativeError(rows, want.rows)).toBeLessThan(EXACT)
    expect(relativeError(logits, want.logits)).toBeLessThan(EXACT)
    expect(foreign(user)).toEqual(['MatMulNBits'])
    expect(user.graph.initializers.filter(({ name }) => /_(Q4|scales|zero_points)$/.test(name)).length).toBe(3)
  })

  test.each([2, 4, 8])(
    'lm_head in the portable form: %i bits, one scale per output, no operators of onnxruntime',
    async bits => {
      const D = 40
      const { user, table, own, embedding, lmHead } = decoder(D, 'own')
      const how = quantizer(bits, D)
      const options = { ...OPTIONS, format: 'portable' } as const
      const jobs = [
        { quantizer: how, embedding: undefined, lmHead },
        { quantizer: quantizer(bits, 32), embedding, lmHead: undefined },
      ]
      exportEmbeddings(user.model, jobs, options)
      const { rows, logits } = await run(user)
      const want = expected(D, rounded(table, D, quantizer(bits, 32)), rounded(own, D, how), undefined)
      expect(relativeError(rows, want.rows)).toBeLessThan(EXACT)
      expect(relativeError(logits, want.logits)).toBeLessThan(EXACT)
      expect(foreign(user)).toEqual([])
    },
  )

  test('clip ratios: lm_head and table have the clipped codes', async () => {
    const [D, how] = [64, quantizer(4, 32)]
    const { user, table, embedding, lmHead } = decoder(D, 'transpose')
    const ratios = (seed: number) => noise(2 * V, seed).map(x => 0.8 + 0.2 * x)
    const [max, min] = [ratios(20), ratios(21)]
    const clip = { max: tensorOf('float32', [2, V], max), min: tensorOf('float32', [2, V], min) }
    exportEmbeddings(user.model, [{ quantizer: how, lmHead, embedding, clip }], OPTIONS)
    const { rows, logits } = await run(user)
    const codes = quantizeWeight(transpose2d(table, V, D), D, V, how, { max, min })
    const w = transpose2d(dequantize(codes, D, V, 32), D, V)
    const want = expected(D, w, w, undefined)
    expect(relativeError(rows, want.rows)).toBeLessThan(EXACT)
    expect(relativeError(logits, want.logits)).toBeLessThan(EXACT)
  })

  test('standard operators that the opset lacks are refused', () => {
    const { user, embedding } = decoder(32, 'own', { opset: 9 })
    const quantize = () =>
      exportEmbeddings(user.model, [{ quantizer: quantizer(4, 32), lmHead: undefined, embedding }], STANDARD)
    expect(quantize).toThrow('opset 9: embeddings quantized by standard operators need 11')
  })
})
