/** @file Precision of products: operands are rounded as bits say, in bodies of loops too, and on CUDA products become bfloat16. */

import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { optimizerOf } from '../../src/autodiff/optimizers.ts'
import { Builder } from '../../src/graph/builder.ts'
import type { Graph } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { type MatMulPrecision, setProductPrecision } from '../../src/kernels/matmul-precision.ts'
import { compile, runGraph } from '../../src/kernels/session.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { blockParameters } from '../../src/quant/learn/learnables.ts'
import { trainingProgram } from '../../src/quant/learn/training-program.ts'
import { blockPlanner } from '../../src/quant/plan/block-planner.ts'
import { allNodes, problems } from '../helpers/device-kernels.ts'
import { METHODS } from '../helpers/every-program.ts'
import { noStart } from '../helpers/no-start.ts'
import { noise } from './weights.ts'

/** x rounded to `bits` significant bits by its float32 pattern, half to even. */
function roundedBits(x: number, bits: number): number {
  const words = new Uint32Array(new Float32Array([x]).buffer)
  const dropped = 24 - bits
  const half = 2 ** (dropped - 1)
  const odd = (words[0]! >>> dropped) & 1
  words[0] = ((words[0]! + half - 1 + odd) >>> dropped) << dropped
  return new Float32Array(words.buffer)[0]!
}

const [M, K, N] = [3, 64, 5]
const [a, b] = [noise(M * K, 1), noise(K * N, 2).map(x => x * 1e-3)]

async function product(precision: MatMulPrecision): Promise<number[]> {
  const g = new Builder()
  g.output(g.matMul(g.input('a', 'float32', [M, K]), g.input('b', 'float32', [K, N])), 'y')
  const feeds = { a: floatTensor([M, K], a), b: floatTensor([K, N], b) }
  return readNumbers((await runGraph(g.graph, feeds, { matmul: precision }))['y']!)
}

const expected = (bits: number): number[] =>
  Array.from({ length: M * N }, (_, i) =>
    Array.from({ length: K }, (_, k) => {
      const [x, w] = [a[Math.floor(i / N) * K + k]!, b[k * N + (i % N)]!]
      return roundedBits(x, bits) * roundedBits(w, bits)
    }).reduce((sum, x) => sum + x, 0),
  )

test.each([
  ['float32', 24],
  ['tf32', 11],
  ['bf16', 8],
] as const)('%s multiplies numbers of %i significant bits', async (precision, bits) => {
  const found = await product(precision)
  expected(bits).forEach((value, i) => expect(Math.abs(found[i]! - value)).toBeLessThan(2e-9))
  const others = [24, 11, 8].filter(other => other !== bits)
  // The three differ by far more than that, so the test can tell them apart.
  for (const other of others)
    expect(Math.max(...expected(other).map((value, i) => Math.abs(found[i]! - value)))).toBeGreaterThan(1e-7)
})

const { blocks, ...analysis } = await analyze(resolve(import.meta.dirname, '../../fixtures/tiny-llama'), 8)

function program(): Graph {
  const method = METHODS['W4A16 g32']!
  const plan = blockPlanner(method, analysis)(blocks[0]!)
  const vector = blockParameters(plan, noStart(method))
  return trainingProgram(plan, vector, optimizerOf('adamw', vector.segments))
}

const products = (graph: Graph) => allNodes(graph).filter(({ opType }) => opType === 'MatMul')

describe('a training program', () => {
  test('is as it was at the precision of the device', () => {
    for (const [precision, device] of [
      ['float32', 'cpu'],
      ['float32', 'cuda:0'],
      ['tf32', 'cuda:0'],
    ] as const) {
      const [changed, plain] = [program(), program()]
      setProductPrecision(changed, precision, device)
      expect(allNodes(changed).map(({ kind }) => kind)).toEqual(allNodes(plain).map(({ kind }) => kind))
    }
  })

  test('has products of bfloat16 on CUDA, each with float32 around it, and kernels for them', () => {
    const graph = program()
    setProductPrecision(graph, 'bf16', 'cuda:0')
    expect(products(graph).length).toBe(products(program()).length)
    for (const node of products(graph)) {
      expect(node.inputs.map(input => input!.dtype)).toEqual(['bfloat16', 'bfloat16'])
      expect(node.outputs[0]!.dtype).toBe('bfloat16')
    }
    expect(problems(graph).filter(problem => problem.startsWith('cuda'))).toEqual([])
    expect(graph.outputs.every(({ dtype }) => dtype === 'float32')).toBe(true)
  })

  test.each(['tf32', 'bf16'] as const)('rounds every operand in the body for %s, and compiles', async precision => {
    const graph = program()
    setProductPrecision(graph, precision, 'cpu')
    for (const { inputs } of products(graph))
      for (const input of inputs) expect(input!.producer!.opType).toBe(precision === 'tf32' ? 'Sub' : 'Cast')
    await (await compile(program(), { matmul: precision })).release()
  })
})
