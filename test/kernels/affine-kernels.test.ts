/** @file Pieces of affine transformations in float64: matrix exponentials with their inverses, spreading matrices, Kronecker products. */

import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { emitKroneckerProduct, emitKroneckerWeight, nearestFactors } from '../../src/kernels/kronecker.ts'
import { emitExponentials } from '../../src/kernels/matrix-exponential.ts'
import { spreadingMatrix } from '../../src/kernels/orthonormal.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { noise } from './weights.ts'

const numbers = (count: number, seed: number): number[] => Array.from(noise(count, seed))

/** a b, both [n, n]. */
function multiplied(a: ArrayLike<number>, b: ArrayLike<number>, n: number): number[] {
  return Array.from({ length: n * n }, (_, index) => {
    const [i, j] = [Math.floor(index / n), index % n]
    return Array.from({ length: n }, (_, k) => a[i * n + k]! * b[k * n + j]!).reduce((sum, x) => sum + x, 0)
  })
}

const identity = (n: number): number[] => Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0))

const scaledBy = (values: readonly number[], factor: number): number[] => values.map(value => value * factor)

/** Greatest difference of two lists. */
const distance = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

/** Spectral norm of a [n, n], by power iteration on a^T a. */
function normOf(a: readonly number[], n: number): number {
  let vector = numbers(n, 9)
  let norm = 0
  for (let round = 0; round < 200; round++) {
    const image = Array.from({ length: n }, (_, i) => vector.reduce((sum, x, j) => sum + a[i * n + j]! * x, 0))
    const back = Array.from({ length: n }, (_, j) => image.reduce((sum, x, i) => sum + a[i * n + j]! * x, 0))
    norm = Math.sqrt(Math.hypot(...back) / Math.hypot(...vector))
    vector = scaledBy(back, 1 / Math.hypot(...back))
  }
  return norm
}

/** exp(a) by its series, summed until nothing changes. */
function exponentialOf(a: readonly number[], n: number): number[] {
  let [term, sum] = [identity(n), identity(n)]
  for (let k = 1; k < 60; k++) {
    term = scaledBy(multiplied(term, a, n), 1 / k)
    sum = sum.map((value, i) => value + term[i]!)
  }
  return sum
}

async function exponentials(a: readonly number[], count: number, n: number) {
  const g = new Builder()
  const input = g.input('a', 'float64', [count, n, n])
  const { exponential, inverse } = emitExponentials(g, input)
  g.output(exponential, 'exponential')
  g.output(inverse, 'inverse')
  const result = await runGraph(g.graph, { a: floatTensor([count, n, n], a, 'float64') }, { threads: 1 })
  return { exponential: readNumbers(result.exponential!), inverse: readNumbers(result.inverse!) }
}

describe('exponentials', () => {
  test.each([3, 16, 22])('of size %i equal the series, and their product is the identity', async n => {
    for (const norm of [0.1, 1, 2.8]) {
      const matrices = [1, 2].map(seed => {
        const values = numbers(n * n, seed)
        return scaledBy(values, norm / normOf(values, n))
      })
      const { exponential, inverse } = await exponentials(matrices.flat(), 2, n)
      matrices.forEach((matrix, i) => {
        const [e, back] = [exponential, inverse].map(all => Array.from(all.slice(i * n * n, (i + 1) * n * n)))
        const wanted = exponentialOf(matrix, n)
        expect(distance(e!, wanted)).toBeLessThan(1e-9 * Math.max(...wanted.map(Math.abs)))
        expect(distance(multiplied(e!, back!, n), identity(n))).toBeLessThan(1e-9)
      })
    }
  })

  test('gradients equal finite differences', async () => {
    const n = 5
    const [a, direction, seedE, seedI] = [1, 2, 3, 4].map(seed => numbers(n * n, seed))
    const g = new Builder()
    const input = g.input('a', 'float64', [1, n, n])
    const seeds = ['de', 'di'].map(name => g.input(name, 'float64', [1, n, n]))
    const { exponential, inverse } = emitExponentials(g, input)
    const da = gradients(
      g,
      new Map([
        [exponential, seeds[0]!],
        [inverse, seeds[1]!],
      ]),
      [input],
    )
    g.output(da.get(input)!, 'da')
    const double = (values: readonly number[]) => floatTensor([1, n, n], values, 'float64')
    const result = await runGraph(g.graph, { a: double(a!), de: double(seedE!), di: double(seedI!) }, { threads: 1 })
    const dot = (x: ArrayLike<number>, y: readonly number[]) => y.reduce((sum, value, i) => sum + value * x[i]!, 0)
    const analytic = dot(readNumbers(result.da!), direction!)
    const at = async (h: number) => {
      const { exponential: e, inverse: i } = await exponentials(
        a!.map((value, k) => value + h * direction![k]!),
        1,
        n,
      )
      return dot(e, seedE!) + dot(i, seedI!)
    }
    const h = 1e-5
    const numeric = ((await at(h)) - (await at(-h))) / (2 * h)
    expect(Math.abs(analytic - numeric)).toBeLessThan(1e-7 * Math.abs(numeric))
  })
})

test.each([1, 2, 3, 16, 22, 43, 64, 86])(
  'the spreading matrix of %i is its own inverse and has no large element',
  n => {
    const s = spreadingMatrix(n)
    expect(distance(multiplied(s, s, n), identity(n))).toBeLessThan(1e-13)
    expect(Math.max(...s.map(Math.abs))).toBeLessThanOrEqual(Math.SQRT2 / Math.sqrt(n) + 1e-15)
    if (Number.isInteger(Math.log2(n))) for (const value of s) expect(Math.abs(value)).toBeCloseTo(1 / Math.sqrt(n), 14)
  },
)

test('factors are as near to each other as can be', () => {
  const pairs = [256, 704, 4096, 11008, 7, 1].map(nearestFactors)
  expect(pairs).toEqual([
    [16, 16],
    [22, 32],
    [64, 64],
    [86, 128],
    [1, 7],
    [1, 1],
  ])
})

test('x P (P^-1 w) = x w', async () => {
  const [n1, n2, N] = [3, 4, 5]
  const g = new Builder()
  const input = (name: string, ...dims: number[]) => g.input(name, 'float64', dims)
  const x = input('x', 2, 3, n1 * n2)
  const w = input('w', n1 * n2, N)
  const { exponential, inverse } = emitExponentials(g, input('a', 1, n1, n1))
  const right = emitExponentials(g, input('b', 1, n2, n2))
  const matrix = (value: typeof x, n: number) => g.reshape(value, [n, n])
  const left = g.transpose(matrix(exponential, n1), [1, 0])
  const transformed = emitKroneckerProduct(g, x, { left, right: matrix(right.exponential, n2) }, [n1, n2], 3)
  const inverses = { left: matrix(inverse, n1), right: matrix(right.inverse, n2) }
  g.output(transformed, 'transformed')
  g.output(g.matMul(transformed, emitKroneckerWeight(g, w, inverses, [n1, n2])), 'y')
  g.output(g.matMul(x, w), 'plain')
  const double = (dims: number[], seed: number) => {
    const count = dims.reduce((a, b) => a * b, 1)
    return floatTensor(dims, numbers(count, seed), 'float64')
  }
  const result = await runGraph(g.graph, {
    x: double([2, 3, n1 * n2], 1),
    w: double([n1 * n2, N], 2),
    a: double([1, n1, n1], 3),
    b: double([1, n2, n2], 4),
  })
  const [y, plain, other] = ['y', 'plain', 'transformed'].map(name => Array.from(readNumbers(result[name]!)))
  expect(distance(y!, plain!)).toBeLessThan(1e-9)
  expect(distance(other!, numbers(other!.length, 1))).toBeGreaterThan(0.1)
})
