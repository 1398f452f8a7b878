/** @file Stable-SPAM against its authors' code, against plain TypeScript, and against what it is for. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { stableSpam, type StableSpamOptions } from '../../src/autodiff/stable-spam.ts'
import { random } from '../helpers/check-vjp.ts'
import { runSteps, stepGraph, type StepInputs } from './optimizer-steps.ts'

// The authors' StableSPAM (github.com/TianjinYellow/StableSPAM, module galore_torch.stablespam) with update_proj_gap 0 and rate
// 0.01 in torch 2.13.0 (CPU, float32), on tensors [3] and [2]. A spike at step 6, no gradient for the second at step 7.
const TORCH = {
  1: [0.49000000953674316, -1.0099999904632568, 1.9900000095367432, 0.9900000095367432, -0.25999999046325684],
  2: [0.4799981117248535, -1.0177327394485474, 1.996041178703308, 0.9901454448699951, -0.25946706533432007],
  6: [0.46479496359825134, -1.005914568901062, 2.017347574234009, 1.0050488710403442, -0.25558170676231384],
  7: [0.46280473470687866, -1.0088614225387573, 2.020073413848877, 1.0049222707748413, -0.2533455193042755],
  10: [0.4539664089679718, -1.0151797533035278, 2.029585361480713, 1.0117552280426025, -0.24365492165088654],
}
const TORCH_STATE = {
  norm: [1.3907910585403442, 7.291747169801965e-5],
  square_norm: [9.074727058410645, 4.537417552796796e-9],
  maximum: [0.07161691039800644, 7.226569778140401e-7],
}

function torchGradient(t: number): number[] {
  const gradient = [0, 1, 2].map(i => Math.sin(t + i) * 10 ** -i)
  if (t === 6) gradient[1]! *= 1000
  return [...gradient, ...(t === 7 ? [0, 0] : [Math.cos(t) * 1e-4, Math.sin(2 * t) * 1e-4])]
}

test("takes the steps of the authors' code, through a spike and a vanished gradient", async () => {
  const gradients = Array.from({ length: 10 }, (_, i) => torchGradient(i + 1))
  const results = await runSteps(stableSpam([3, 2]), { start: [0.5, -1, 2, 1, -0.25], gradients, learningRate: 0.01 })
  for (const [t, expected] of Object.entries(TORCH)) {
    const { parameter } = results[Number(t) - 1]!
    expected.forEach((value, i) => expect(Math.abs(parameter[i]! - value)).toBeLessThan(5e-7))
  }
  for (const [name, expected] of Object.entries(TORCH_STATE))
    expected.forEach((value, i) => expect(results[9]!.state[name]![i]! / value).toBeCloseTo(1, 5))
})

interface Averages {
  norm: number
  square: number
  maximum: number
}

/** The same in float64, one tensor and one element after the other. */
function reference(segments: readonly number[], { start, gradients, learningRate }: StepInputs, resetEvery: number) {
  const p = [...start]
  const [m, v] = [p.map(() => 0), p.map(() => 0)]
  const averages: Averages[] = segments.map(() => ({ norm: 0, square: 0, maximum: 0 }))
  return gradients.map((row, index) => {
    const t = index + 1
    const adamT = resetEvery > 0 ? (index % resetEvery) + 1 : t
    let offset = 0
    segments.forEach((length, tensor) => {
      const mean = averages[tensor]!
      const g = row.slice(offset, offset + length)
      const largest = Math.max(...g.map(Math.abs))
      mean.maximum = 0.999 * mean.maximum + 0.001 * largest
      const threshold = mean.maximum / (1 - 0.999 ** t)
      const clipped = g.map(value => (Math.abs(value) > threshold ? (value / largest) * threshold : value))
      const square = clipped.reduce((sum, value) => sum + value * value, 0)
      const norm = Math.sqrt(square)
      mean.norm = 0.7 * mean.norm + 0.3 * norm
      mean.square = 0.9 * mean.square + 0.1 * square
      const target = mean.norm / (1 - 0.7 ** t) / (Math.sqrt(mean.square / (1 - 0.9 ** t)) + 1e-8)
      clipped.forEach((value, i) => {
        const at = offset + i
        const steadied = norm > 0 ? (value / norm) * target : 0
        m[at] = 0.9 * (adamT === 1 ? 0 : m[at]!) + 0.1 * steadied
        v[at] = 0.999 * (adamT === 1 ? 0 : v[at]!) + 0.001 * steadied ** 2
        const rate = typeof learningRate === 'number' ? learningRate : learningRate[at]!
        p[at]! -= (rate * (m[at]! / (1 - 0.9 ** adamT))) / (Math.sqrt(v[at]! / (1 - 0.999 ** adamT)) + 1e-8)
      })
      offset += length
    })
    const state = {
      m: [...m],
      v: [...v],
      norm: averages.map(mean => mean.norm),
      square_norm: averages.map(mean => mean.square),
      maximum: averages.map(mean => mean.maximum),
    }
    return { parameter: [...p], state }
  })
}

/** Random gradients of a size of their own in each tensor; single elements, or all of a tensor, now and then go wild or to 0. */
function gradientsFor(segments: readonly number[], steps: number, seed: number): number[][] {
  const next = random(seed)
  const sizes = segments.map(() => 10 ** (6 * next() - 5))
  return Array.from({ length: steps }, () =>
    segments.flatMap((length, tensor) => {
      const mood = next()
      return Array.from({ length }, () => {
        const value = sizes[tensor]! * (2 * next() - 1)
        if (mood < 0.1) return 0
        if (mood < 0.2) return Math.fround(value * 1000)
        return Math.fround(mood < 0.4 && next() < 0.1 ? value * 5000 : value)
      })
    }),
  )
}

function compare(actual: readonly number[], expected: readonly number[], tolerance: number, what: string): void {
  const largest = Math.max(...expected.map(Math.abs), 1e-30)
  expected.forEach((value, i) => {
    const error = Math.abs(actual[i]! - value) / largest
    if (!(error <= tolerance)) expect.fail(`${what} [${i}]: ${actual[i]} instead of ${value}`)
  })
}

describe.each([
  { segments: [40], resetEvery: 0 },
  { segments: [7, 7, 7], resetEvery: 25 },
  { segments: [6, 6, 1, 30, 30, 6, 200], resetEvery: 25 },
  { segments: [16, 3], resetEvery: 1 },
])('segments $segments, reset every $resetEvery', ({ segments, resetEvery }) => {
  test('equals the formulas in float64 over 80 steps with spikes, zeros and resets', async () => {
    const size = segments.reduce((sum, length) => sum + length, 0)
    const next = random(11)
    const start = Array.from({ length: size }, () => Math.fround(next()))
    const inputs = {
      start,
      gradients: gradientsFor(segments, 80, size),
      learningRate: start.map((_, i) => [0.01, 0.005][i % 2]!),
    }
    const actual = await runSteps(stableSpam(segments, { resetEvery }), inputs)
    reference(segments, inputs, resetEvery).forEach(({ parameter, state }, i) => {
      compare(actual[i]!.parameter, parameter, 1e-5, `step ${i + 1}, parameter`)
      for (const [name, values] of Object.entries(state))
        compare(actual[i]!.state[name]!, values, 2e-5, `step ${i + 1}, ${name}`)
    })
  })
})

const norm = (values: readonly number[]): number => Math.hypot(...values)

test('a tensor of no gradient at first comes alive undamaged, and its neighbour of the same length does not notice', async () => {
  const gradients = gradientsFor([5, 5], 20, 1).map((row, i) =>
    [0, 0, 0, 0, 0].map((_, j) => (i < 5 ? 0 : j - 2)).concat(row.slice(5)),
  )
  const start = Array<number>(10).fill(0)
  const results = await runSteps(stableSpam([5, 5]), { start, gradients, learningRate: 0.01 })
  expect(results[4]!.parameter.slice(0, 5)).toEqual([0, 0, 0, 0, 0])
  const last = results.at(-1)!.parameter
  expect(last.every(Number.isFinite)).toBe(true)
  expect(last[0]).toBeGreaterThan(0.05)
  expect(last[4]).toBeLessThan(-0.05)
  const alone = await runSteps(stableSpam([5]), {
    start: start.slice(5),
    gradients: gradients.map(row => row.slice(5)),
    learningRate: 0.01,
  })
  compare(last.slice(5), alone.at(-1)!.parameter, 1e-6, 'neighbour')
})

test('a spike of a thousandfold in one element is cut to the size of its like', async () => {
  const gradients = Array.from({ length: 30 }, (_, t) => [1, -1, 1, t === 29 ? 1000 : 1])
  const [before, after] = (
    await runSteps(stableSpam([4]), { start: [0, 0, 0, 0], gradients, learningRate: 0.01 })
  ).slice(-2)
  // m moves by a tenth of the steadied gradient: its norm was sqrt(4) / 2 = 1 in every step before.
  const steadied = after!.state.m!.map((value, i) => 10 * (value - 0.9 * before!.state.m![i]!))
  expect(norm(before!.state.m!)).toBeCloseTo(1 - 0.9 ** 29, 5)
  expect(norm(steadied)).toBeLessThan(1.1)
  expect(Math.abs(after!.parameter[3]! - before!.parameter[3]!)).toBeLessThan(0.015)
})

test('a reset forgets the moments and nothing else', async () => {
  const gradients = gradientsFor([6, 2], 12, 5)
  const inputs = { start: Array<number>(8).fill(1), gradients, learningRate: 0.01 }
  const [reset, never] = await Promise.all(
    [{ resetEvery: 11 }, { resetEvery: 0 }].map((options: StableSpamOptions) =>
      runSteps(stableSpam([6, 2], options), inputs),
    ),
  )
  expect(reset!.slice(0, 11)).toEqual(never!.slice(0, 11))
  const [at, without] = [reset![11]!, never![11]!]
  for (const name of ['norm', 'square_norm', 'maximum']) expect(at.state[name]).toEqual(without.state[name])
  // The first step after a reset is, like the very first, the learning rate in every element that has a gradient.
  at.parameter.forEach((value, i) => {
    const moved = reset![10]!.parameter[i]! - value
    expect(moved).toBeCloseTo(0.01 * Math.sign(gradients[11]![i]!), 4)
  })
  expect(at.state.m).not.toEqual(without.state.m)
})

test('the scale of a gradient does not matter, nor what the other tensors do', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 1e6 }), fc.integer({ min: -6, max: 10 }), async (seed, exponent) => {
      const gradients = gradientsFor([4, 9], 12, seed).map(row => row.map((value, i) => (i < 4 ? value + 1 : value)))
      const other = gradients.map(row => row.map((value, i) => (i < 4 ? value * 2 ** exponent : -3 * value)))
      const options = { epsilon: 1e-20 }
      const inputs = { start: Array<number>(13).fill(0), learningRate: 0.1 }
      const [a, b] = [
        await runSteps(stableSpam([4, 9], options), { ...inputs, gradients }),
        await runSteps(stableSpam([4, 9], options), { ...inputs, gradients: other }),
      ]
      compare(a.at(-1)!.parameter.slice(0, 4), b.at(-1)!.parameter.slice(0, 4), 1e-5, `seed ${seed}`)
    }),
    { numRuns: 10, seed: 17 },
  )
})

test('costs nodes by the number of different lengths in a row, not of tensors', () => {
  const nodes = (segments: readonly number[]) =>
    stepGraph(
      stableSpam(segments),
      segments.reduce((sum, length) => sum + length, 0),
    ).graph.nodes.length
  expect(nodes([8, 8, 8, 8, 8, 8])).toBe(nodes([8, 8]))
  expect(nodes([8, 4, 8, 4]) - nodes([8, 4, 8])).toBeLessThanOrEqual(10)
  expect(nodes([8, 4])).toBeLessThanOrEqual(105)
})

test.each([[[]], [[3, 0]], [[2.5]], [[-1]]])('segments %j are refused', segments => {
  expect(() => stableSpam(segments)).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }))
})

test.each([-1, 0.5, NaN])('an interval of %d steps is refused', resetEvery => {
  expect(() => stableSpam([1], { resetEvery })).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }))
})
