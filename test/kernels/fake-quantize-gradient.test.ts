/**
 * @file Gradients of the fake quantizer in float64 against the straight-through definition, written out by hand. Finite
 * differences cannot judge it: of a rounded function they say zero.
 */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { emitFakeQuantize, emitWeightRange } from '../../src/kernels/weights.ts'
import {
  groupsOf,
  roundHalfEven,
  scaleBounds,
  storedScale,
  symmetricSteps,
  type WeightQuantizer,
} from '../../src/kernels/qparams.ts'
import { runGraph, type Tensors } from '../../src/kernels/session.ts'
import { GRIDS, noise, type WeightCase, weightCases, weightsOf } from './weights.ts'

interface Gradients {
  readonly w: number[]
  readonly max: number[]
  readonly min: number[]
  readonly hi: number[]
  readonly lo: number[]
  readonly offset: number[]
}

/** Numbers the gradient is taken at: weights, d loss / d output, logits of the clip ratios, and offsets of the rounding. */
function pointOf(given: WeightCase) {
  const { K, N, quantizer, seed } = given
  const size = groupsOf(K, quantizer.group).count * N
  const logits = (offset: number) => Array.from(noise(size, seed + offset), x => 1.5 + 2 * x)
  return {
    w: [...weightsOf(given)],
    dp: [...noise(K * N, seed + 7)],
    max: logits(1),
    min: logits(2),
    offset: [...noise(K * N, seed + 3)],
  }
}

type Point = ReturnType<typeof pointOf>

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

/** The definition: rounding passes gradients on, clamps do where they do not act, the zero point has none. */
function byHand({ K, N, quantizer }: WeightCase, { w, dp, max, min, offset }: Point): Gradients {
  const { size, count } = groupsOf(K, quantizer.group)
  const top = 2 ** quantizer.bits - 1
  const [low, high] = scaleBounds(quantizer)
  const zeros = () => Array<number>(count * N).fill(0)
  const perWeight = () => Array<number>(K * N).fill(0)
  const result = { w: perWeight(), offset: perWeight(), max: zeros(), min: zeros(), hi: zeros(), lo: zeros() }
  for (let i = 0; i < count * N; i++) {
    const first = Math.floor(i / N) * size
    const members = Array.from({ length: Math.min(size, K - first) }, (_, k) => (first + k) * N + (i % N))
    const hi = Math.max(0, ...members.map(at => w[at]!))
    const lo = Math.min(0, ...members.map(at => w[at]!))
    const [ratioMax, ratioMin] = [sigmoid(max[i]!), sigmoid(min[i]!)]
    const [above, below] = [hi * ratioMax, -lo * ratioMin]
    const turned = quantizer.symmetric && !quantizer.positiveScale && hi > -lo
    const { above: stepsAbove, below: stepsBelow } = quantizer.symmetric
      ? symmetricSteps(quantizer.bits, turned)
      : { above: top, below: top }
    const [fromAbove, fromBelow] = [above / stepsAbove, below / stepsBelow]
    const raw = quantizer.symmetric ? Math.max(fromAbove, fromBelow) : (above + below) / top
    const bounded = Math.min(Math.max(raw, low), high)
    const sign = turned ? -1 : 1
    const scale = sign * storedScale(bounded, quantizer)
    const zeroPoint = quantizer.symmetric
      ? 2 ** (quantizer.bits - 1)
      : Math.min(Math.max(roundHalfEven(below / scale), 0), top)
    let dScale = 0
    for (const at of members) {
      const unclamped = roundHalfEven(w[at]! / scale + offset[at]!) + zeroPoint
      const code = Math.min(Math.max(unclamped, 0), top)
      const inside = unclamped > 0 && unclamped < top
      dScale += dp[at]! * (code - zeroPoint - (inside ? w[at]! / scale : 0))
      if (!inside) continue
      result.w[at] = dp[at]!
      result.offset[at] = dp[at]! * scale
    }
    const dRaw = raw === bounded ? sign * dScale : 0
    const share = (mine: number, other: number) =>
      quantizer.symmetric ? (mine > other ? 1 : mine === other ? 0.5 : 0) : 1
    const dAbove = (dRaw / stepsAbove) * share(fromAbove, fromBelow)
    const dBelow = (dRaw / stepsBelow) * share(fromBelow, fromAbove)
    result.max[i] = dAbove * hi * ratioMax * (1 - ratioMax)
    result.min[i] = dBelow * -lo * ratioMin * (1 - ratioMin)
    result.hi[i] = dAbove * ratioMax
    result.lo[i] = -dBelow * ratioMin
  }
  return result
}

/** The same by `gradients()`; `ownRange`: the range is computed from the very weight that is differentiated. */
async function byGraph({ K, N, quantizer }: WeightCase, point: Point, ownRange = false): Promise<Gradients> {
  const { count } = groupsOf(K, quantizer.group)
  const g = new Builder()
  const feeds: Tensors = {}
  const input = (name: string, dims: number[], numbers: readonly number[]) => {
    feeds[name] = floatTensor(dims, numbers, 'float64')
    return g.input(name, 'float64', dims)
  }
  const w = input('w', [K, N], point.w)
  const dp = input('dp', [K, N], point.dp)
  const max = input('max', [count, N], point.max)
  const min = input('min', [count, N], point.min)
  const offset = input('offset', [K, N], point.offset)
  const own = emitWeightRange(g, w, quantizer.group)
  const range = ownRange
    ? own
    : { ...emitWeightRange(g, input('constant', [K, N], point.w), quantizer.group), grouped: own.grouped }
  const ratios = { max: g.op('Sigmoid', [max]), min: g.op('Sigmoid', [min]) }
  const { output } = emitFakeQuantize(g, w, range, quantizer, { ratios, offset })
  const wrt = { w, offset, max, min, hi: range.hi, lo: range.lo }
  const found = gradients(g, new Map([[output, dp]]), Object.values(wrt))
  for (const [name, value] of Object.entries(wrt)) g.output(g.op('Identity', [found.get(value)!]), `d_${name}`)
  const result = await runGraph(g.graph, feeds, { threads: 1 })
  const read = (name: keyof Gradients) => readNumbers(result[`d_${name}`]!)
  return {
    w: read('w'),
    max: read('max'),
    min: read('min'),
    hi: read('hi'),
    lo: read('lo'),
    offset: read('offset'),
  }
}

/** Greatest difference, in parts of what is compared. */
function difference(actual: readonly number[], expected: readonly number[]): number {
  const size = Math.max(1e-3, ...expected.map(Math.abs))
  return Math.max(...expected.map((x, i) => Math.abs(x - actual[i]!))) / size
}

test('weights, offsets, logits and range get the gradients of the definition', async () => {
  let clamped = 0
  await fc.assert(
    fc.asyncProperty(weightCases, async given => {
      const point = pointOf(given)
      const expected = byHand(given, point)
      const actual = await byGraph(given, point)
      for (const name of ['w', 'offset', 'max', 'min', 'hi', 'lo'] as const)
        expect(difference(actual[name], expected[name]), name).toBeLessThan(1e-9)
      clamped += expected.w.filter(x => x === 0).length
    }),
    { numRuns: 40 },
  )
  // Otherwise the clamp was never put to the test.
  expect(clamped).toBeGreaterThan(20)
})

/** byHand's gradient of w, with what reaches it through its range: extremes beyond zero share theirs equally. */
function throughRange({ K, N, quantizer }: WeightCase, { w }: Point, { w: direct, hi, lo }: Gradients): number[] {
  const { size, count } = groupsOf(K, quantizer.group)
  const result = [...direct]
  for (let i = 0; i < count * N; i++) {
    const first = Math.floor(i / N) * size
    const members = Array.from({ length: Math.min(size, K - first) }, (_, k) => (first + k) * N + (i % N))
    for (const [sign, gradient] of [
      [1, hi[i]!],
      [-1, lo[i]!],
    ] as const) {
      const extreme = Math.max(...members.map(at => sign * w[at]!))
      const sharing = members.filter(at => sign * w[at]! === extreme)
      if (extreme > 0) for (const at of sharing) result[at]! += gradient / sharing.length
    }
  }
  return result
}

test('a weight that is learned itself also gets what its range receives', async () => {
  let shared = 0
  await fc.assert(
    fc.asyncProperty(weightCases, async given => {
      const point = pointOf(given)
      const found = byHand(given, point)
      const expected = throughRange(given, point, found)
      expect(difference((await byGraph(given, point, true)).w, expected)).toBeLessThan(1e-9)
      shared += expected.filter((x, at) => x !== found.w[at]).length
    }),
    { numRuns: 40 },
  )
  // Otherwise no range ever received anything.
  expect(shared).toBeGreaterThan(200)
})

/** Scale of a group in float64: its range clipped by the ratios. The sign is that of the whole range. */
function scaleOf(members: readonly number[], ratios: { max: number; min: number }, quantizer: WeightQuantizer): number {
  const [hi, lo] = [Math.max(0, ...members), Math.min(0, ...members)]
  const [above, below] = [hi * ratios.max, -lo * ratios.min]
  if (!quantizer.symmetric) return (above + below) / (2 ** quantizer.bits - 1)
  const longer = 2 ** (quantizer.bits - 1)
  if (hi > -lo && !quantizer.positiveScale) return -Math.max(above / longer, below / (longer - 0.5))
  return Math.max(above / (longer - 0.5), below / longer)
}

test.each(GRIDS)('gradients of weights and logits are the slope with rounding held fixed: %o', async grid => {
  // Groups of 64, long enough to be reduced in parts, and noise, of which no two numbers are equal: slopes exist.
  const quantizer: WeightQuantizer = { bits: 4, group: 64, ...grid, scaleDtype: 'float32' }
  const given: WeightCase = { K: 128, N: 3, quantizer, seed: 21, clipped: true }
  const at = { ...pointOf(given), w: [...noise(128 * 3, 17)], offset: Array<number>(128 * 3).fill(0) }
  const groups = Array.from({ length: 6 }, (_, i) =>
    Array.from({ length: 64 }, (_, k) => (Math.floor(i / 3) * 64 + k) * 3 + (i % 3)),
  )
  const scaleAt = ({ w, max, min }: Pick<Point, 'w' | 'max' | 'min'>, i: number) =>
    scaleOf(
      groups[i]!.map(index => w[index]!),
      { max: sigmoid(max[i]!), min: sigmoid(min[i]!) },
      quantizer,
    )
  if (quantizer.symmetric && !quantizer.positiveScale) {
    const signs = new Set(groups.map((_, i) => Math.sign(scaleAt(at, i))))
    expect(signs).toEqual(new Set([1, -1]))
  }
  const surrogate = groups.map((members, i) => {
    const scale = scaleAt(at, i)
    const least = Math.min(...members.map(index => at.w[index]!))
    const zeroPoint = quantizer.symmetric ? 8 : roundHalfEven((-least * sigmoid(at.min[i]!)) / scale)
    return members.map(index => {
      const code = roundHalfEven(at.w[index]! / scale) + zeroPoint
      if (code <= 0 || code >= 15) {
        const steps = Math.min(Math.max(code, 0), 15) - zeroPoint
        return (_w: number, s: number) => steps * s
      }
      const error = code - zeroPoint - at.w[index]! / scale
      return (w: number, s: number) => w + error * s
    })
  })
  const loss = (point: Pick<Point, 'w' | 'max' | 'min'>) =>
    groups
      .flatMap((members, i) =>
        members.map((index, k) => at.dp[index]! * surrogate[i]![k]!(point.w[index]!, scaleAt(point, i))),
      )
      .reduce((a, b) => a + b)
  const found = await byGraph(given, at, true)
  for (const name of ['w', 'max', 'min'] as const) {
    const direction = noise(at[name].length, 5)
    const moved = (h: number) => loss({ ...at, [name]: at[name].map((x, index) => x + h * direction[index]!) })
    const slope = found[name].reduce((sum, x, index) => sum + x * direction[index]!, 0)
    expect(slope, name).toBeCloseTo((moved(1e-6) - moved(-1e-6)) / 2e-6, 6)
  }
})

test('learning the logits lowers the error of the weights', async () => {
  // An outlier twice the size of the rest: cutting it costs less than the finer steps for the others gain.
  const w = [...noise(64, 2)].map((x, i) => (i === 5 ? 1 : x * 0.5))
  const given: WeightCase = {
    K: 64,
    N: 1,
    quantizer: { bits: 2, group: 64, symmetric: false, scaleDtype: 'float32' },
    seed: 1,
    clipped: true,
  }
  const errorAndStep = async (max: number): Promise<[number, number]> => {
    const g = new Builder()
    const weight = g.input('w', 'float64', [64, 1])
    const logit = g.input('max', 'float64', [1, 1])
    const ratios = { max: g.op('Sigmoid', [logit]), min: g.scalar(1, 'float64') }
    const range = emitWeightRange(g, weight, 64)
    const { output } = emitFakeQuantize(g, weight, range, given.quantizer, { ratios })
    const error = g.sub(output, weight)
    g.output(g.op('ReduceSumSquare', [error]), 'loss')
    g.output(gradients(g, new Map([[output, g.scale(error, 2)]]), [logit]).get(logit)!, 'slope')
    const run = await runGraph(g.graph, {
      w: floatTensor([64, 1], w, 'float64'),
      max: floatTensor([1, 1], [max], 'float64'),
    })
    return [readNumbers(run['loss']!)[0]!, readNumbers(run['slope']!)[0]!]
  }
  let logit = 4
  const [before] = await errorAndStep(logit)
  for (let i = 0; i < 30; i++) logit -= 0.2 * Math.sign((await errorAndStep(logit))[1])
  const [after] = await errorAndStep(logit)
  expect(after).toBeLessThan(before * 0.9)
})
