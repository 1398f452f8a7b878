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

  test('every lookup in the table is replaced, in bodies too', async () => {
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
    exportEmbeddings(user.model, [{ quantizer: how, lmHead: undefined, embedding }], OPTIONS)
    const feeds = { ids: tensorOf('int64', [IDS.length], BigInt64Array.from(IDS, BigInt)) }
    const results = await runModel(user.model, feeds, folder)
    const want = expected(D, rounded(table, D, how), table, undefined)
    for (const name of ['rows', 'branch_rows'])
      expect(relativeError(results[name]!, want.rows), name).toBeLessThan(EXACT)
    expect(user.graph.initializers.some(({ name }) => name === 'table')).toBe(false)
    expect(user.graph.initializers.filter(({ name }) => name.startsWith('table_')).length).toBe(3)
    expect(lmHead.origin.inputs[1]!.name).toBe('own')
  })
})
