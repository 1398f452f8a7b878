/** @file The rounding of activations in MatMulNBits at accuracy_level 4: definition, kernel and graph agree, and what the gradient is. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import { type Attribute, Node, Value } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers, tensorOf } from '../../src/graph/tensor.ts'
import { emitInt8Blocks, fakeInt8Blocks } from '../../src/kernels/int8-blocks.ts'
import { roundsInput } from '../../src/kernels/pack/matmul-nbits.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { noise } from './weights.ts'
import { unless } from '../helpers/unless.ts'

const positiveZero = (numbers: ArrayLike<number>) => Array.from(numbers, x => x + 0)

/** Result of the graph for x [rows, K], and the gradient for dy. */
async function byGraph(
  x: ArrayLike<number>,
  dy: ArrayLike<number>,
  K: number,
  block: number,
  dtype: 'float32' | 'float64',
) {
  const dims = [1, x.length / K, K]
  const g = new Builder()
  const [input, seed] = [g.input('x', dtype, dims), g.input('dy', dtype, dims)]
  const y = emitInt8Blocks(g, input, block)
  expect(y.shape).toEqual(dims)
  const dx = gradients(g, new Map([[y, seed]]), [input]).get(input)!
  g.output(y, 'y')
  g.output(g.scale(dx, 1), 'dx')
  const feeds = { x: floatTensor(dims, Array.from(x), dtype), dy: floatTensor(dims, Array.from(dy), dtype) }
  const result = await runGraph(g.graph, feeds, { threads: 1 })
  return { y: readNumbers(result['y']!), dx: readNumbers(result['dx']!) }
}

interface Product {
  readonly bits: number
  readonly blockSize: number
  readonly K: number
  /** The same for all blocks. */
  readonly zeroPoint: number
  /** [N, K] */
  readonly codes: Uint8Array
  readonly x: Float32Array
  readonly float16?: boolean
}

/** MatMulNBits at accuracy_level 4, with scales of 1: y [rows, N]. */
async function byKernel({ bits, blockSize, K, zeroPoint, codes, x, float16 = false }: Product): Promise<number[]> {
  const N = codes.length / K
  const blocks = Math.ceil(K / blockSize)
  const packed = (rows: number, perRow: number, field: (row: number, i: number) => number) => {
    const rowBytes = Math.ceil((perRow * bits) / 8)
    const bytes = new Uint8Array(rows * rowBytes)
    for (let row = 0; row < rows; row++)
      for (let i = 0; i < perRow; i++) {
        const at = row * rowBytes + Math.floor((i * bits) / 8)
        bytes[at] = bytes[at]! | (field(row, i) << ((i * bits) % 8))
      }
    return { bytes, rowBytes }
  }
  const b = packed(N, blocks * blockSize, (n, k) => (k < K ? codes[n * K + k]! : zeroPoint))
  const zeros = packed(N, blocks, () => zeroPoint)
  const g = new Builder()
  const dtype = float16 ? 'float16' : 'float32'
  const input = g.input('x', 'float32', [x.length / K, K])
  const y = new Value('y', dtype, [x.length / K, N])
  const attributes = { K, N, bits, block_size: blockSize, accuracy_level: 4 }
  g.graph.nodes.push(
    new Node(
      'MatMulNBits',
      [
        float16 ? g.cast(input, dtype) : input,
        g.initializer('b', tensorOf('uint8', [N, blocks, (blockSize * bits) / 8], b.bytes)),
        g.typed(g.initializer('scales', floatTensor([N, blocks], Array<number>(N * blocks).fill(1))), dtype),
        g.initializer('zeros', tensorOf('uint8', [N, zeros.rowBytes], zeros.bytes)),
      ],
      [y],
      new Map(Object.entries(attributes).map(([name, value]): [string, Attribute] => [name, { type: 'int', value }])),
      'com.microsoft',
    ),
  )
  g.output(g.typed(y, 'float32'), 'out')
  return readNumbers((await runGraph(g.graph, { x: floatTensor([x.length / K, K], x) }, { prepacking: true }))['out']!)
}

const KERNELS = [2, 4, 8].flatMap(bits =>
  [16, 32, 64, 128, 256].map(blockSize => ({ bits, blockSize, rounds: roundsInput({ bits: bits as 2, blockSize }) })),
)

// Other processors have kernels of their own.
describe('onnxruntime’s kernel', unless(process.arch === 'x64' ? undefined : 'for x64'), () => {
  test('is missing for 2 bits in blocks of 16 and 256', () => {
    expect(KERNELS.flatMap(({ bits, blockSize, rounds }) => (rounds ? [] : [[bits, blockSize]]))).toEqual([
      [2, 16],
      [2, 256],
    ])
  })

  test.each(KERNELS)(
    '$bits bits, blocks of $blockSize: has the codes of the definition, next to ties as well',
    async kernel => {
      const { bits, blockSize: K, rounds } = kernel
      const codes = new Uint8Array(K * K)
      for (let n = 0; n < K; n++) codes[n * K + n] = 1
      const rows = 9
      // Half numbers of steps, a bit up or down, and a number that sets the step.
      const x = noise(rows * K, 5).map((value, i) => {
        const most = 1 + (Math.floor(i / K) * 37) / 100
        if (i % K === Math.floor(i / K)) return most
        const ulps = 1 + Math.round(value * 3) * 2 ** -23
        return Math.fround((Math.floor(value * 126) + 0.5) * Math.fround(most / 127)) * ulps
      })
      const y = await byKernel({ bits, blockSize: K, K, zeroPoint: 0, codes, x })
      expect(positiveZero(y)).toEqual(positiveZero(rounds ? fakeInt8Blocks(x, K, K) : x))
    },
  )

  /** x times codes less zero point, in float64. */
  const exact = (x: ArrayLike<number>, { codes, zeroPoint, K }: Product): number[] => {
    const N = codes.length / K
    return Array.from({ length: (x.length / K) * N }, (_, at) => {
      const [row, n] = [Math.floor(at / N), at % N]
      let sum = 0
      for (let k = 0; k < K; k++) sum += x[row * K + k]! * (codes[n * K + k]! - zeroPoint)
      return sum
    })
  }
  const distance = (a: readonly number[], b: readonly number[]) => {
    const square = (numbers: readonly number[]) => numbers.reduce((sum, x) => sum + x * x, 0)
    return Math.sqrt(square(a.map((value, i) => value - b[i]!)) / square(b))
  }
  const CASES = KERNELS.flatMap(kernel => [
    { ...kernel, K: 256, float16: false },
    { ...kernel, K: 200, float16: false },
    { ...kernel, K: 200, float16: true },
  ])
  test.each(CASES)('$bits bits, blocks of $blockSize, K $K, float16 $float16', async ({ rounds, ...given }) => {
    const { bits, blockSize, K, float16 } = given
    const codes = Uint8Array.from(noise(40 * K, 3), value => Math.floor(((value + 1) / 2) * 2 ** bits))
    // Numbers of float16, so that only the result is rounded to it.
    const x = noise(6 * K, 4).map(value => Math.round(value ** 3 * 512) / 512)
    const product: Product = { bits, blockSize, K, zeroPoint: 1, codes, x, float16 }
    const y = await byKernel(product)
    const [near, far] = [fakeInt8Blocks(x, K, blockSize), x].map(input => distance(y, exact(input, product)))
    const tolerance = float16 ? 5e-4 : 1e-6
    expect(rounds ? near : far).toBeLessThan(tolerance)
    expect(rounds ? far : near).toBeGreaterThan(2 * tolerance)
  })
})

describe('the graph', () => {
  test('gives the definition’s numbers, bit for bit', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          K: fc.integer({ min: 1, max: 200 }),
          rows: fc.integer({ min: 1, max: 5 }),
          block: fc.constantFrom(16, 32, 64, 256),
          size: fc.constantFrom(1, 1e-30, 1e-40, 1e30),
          seed: fc.integer({ min: 1, max: 1e6 }),
        }),
        async ({ K, rows, block, size, seed }) => {
          // By turns: plain, zeros, whole numbers, one-sided, with an outlier.
          const x = noise(K * rows, seed).map((value, i) => {
            const kinds = [value, 0, Math.round(value * 4), Math.abs(value), i % K === 3 ? 100 * value : value]
            return kinds[(Math.floor(i / K) + seed) % kinds.length]! * size
          })
          const { y } = await byGraph(x, x, K, block, 'float32')
          expect(positiveZero(y)).toEqual(positiveZero(fakeInt8Blocks(x, K, block)))
        },
      ),
      { numRuns: 40 },
    )
  })

  test('clips nothing: the greatest number of a block keeps its value, and no other errs by more than half a step', () => {
    const [K, block] = [72, 32]
    const x = noise(40 * K, 9)
    const y = fakeInt8Blocks(x, K, block)
    for (let first = 0; first < x.length; first += K)
      for (let at = first; at < first + K; at += block) {
        const end = Math.min(at + block, first + K)
        const most = Math.max(...x.subarray(at, end).map(Math.abs))
        for (let i = at; i < end; i++)
          expect(Math.abs(x[i]! - y[i]!)).toBeLessThanOrEqual((Math.abs(x[i]!) === most ? 1e-4 : 0.5001) * (most / 127))
      }
  })

  test('hands the gradient on as it is', async () => {
    const [K, block] = [72, 32]
    const [x, dy] = [noise(3 * K, 11), noise(3 * K, 12)]
    for (const dtype of ['float32', 'float64'] as const)
      expect((await byGraph(x, dy, K, block, dtype)).dx).toEqual([...dy])
  })

  test('which is the slope of the rounding over many steps, in float64', async () => {
    const [K, block, tokens] = [64, 32, 400]
    const [x, direction] = [noise(K * tokens, 13), noise(K * tokens, 14)]
    const dy = [...direction].map((value, i) => value + noise(1, i + 1)[0]!)
    const loss = async (h: number) => {
      const moved = Array.from(x, (value, i) => value + h * direction[i]!)
      const { y } = await byGraph(moved, dy, K, block, 'float64')
      return y.reduce((sum, value, i) => sum + value * dy[i]!, 0)
    }
    // A step is 1/127 of about 1. A difference over ten of them leaves a hundredth of the slope to the rounding.
    const slope = ((await loss(0.04)) - (await loss(-0.04))) / 0.08
    const { dx } = await byGraph(x, dy, K, block, 'float64')
    const expected = dx.reduce((sum, value, i) => sum + value * direction[i]!, 0)
    expect(Math.abs(slope - expected) / Math.abs(expected)).toBeLessThan(0.01)
  })
})
