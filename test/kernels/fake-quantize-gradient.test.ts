/**
 * @file Gradients of the fake quantizer in float64 against the straight-through definition, written out by hand. Finite
 * differences cannot judge it: of a rounded function they say zero.
 */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { emitFakeQuantize, emitWeightRange } from '../../src/kernels/fake-quantize.ts'
import { roundToFloat16 } from '../../src/kernels/float16.ts'
import { groupsOf, roundHalfEven, scaleBounds, stepCount } from '../../src/kernels/qparams.ts'
import { runGraph, type Tensors } from '../../src/kernels/session.ts'
import { noise, type WeightCase, weightCases, weightsOf } from './weights.ts'

interface Gradients {
  readonly w: number[]
  readonly max: number[]
  readonly min: number[]
  readonly hi: number[]
  readonly lo: number[]
}

/** Numbers the gradient is taken at: weights, d loss / d output, and logits of the clip ratios. */
function pointOf(given: WeightCase) {
  const { K, N, quantizer, seed } = given
  const size = groupsOf(K, quantizer.group).count * N
  const logits = (offset: number) => Array.from(noise(size, seed + offset), x => 1.5 + 2 * x)
  return { w: [...weightsOf(given)], dp: [...noise(K * N, seed + 7)], max: logits(1), min: logits(2) }
}

type Point = ReturnType<typeof pointOf>

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

/** The definition: rounding passes gradients on, clamps do where they do not act, the zero point has none. */
function byHand({ K, N, quantizer }: WeightCase, { w, dp, max, min }: Point): Gradients {
  const { size, count } = groupsOf(K, quantizer.group)
  const top = 2 ** quantizer.bits - 1
  const [low, high] = scaleBounds(quantizer)
  const zeros = () => Array<number>(count * N).fill(0)
  const result = { w: Array<number>(K * N).fill(0), max: zeros(), min: zeros(), hi: zeros(), lo: zeros() }
  for (let i = 0; i < count * N; i++) {
    const first = Math.floor(i / N) * size
    const members = Array.from({ length: Math.min(size, K - first) }, (_, k) => (first + k) * N + (i % N))
    const hi = Math.max(0, ...members.map(at => w[at]!))
    const lo = Math.min(0, ...members.map(at => w[at]!))
    const [ratioMax, ratioMin] = [sigmoid(max[i]!), sigmoid(min[i]!)]
    const [above, below] = [hi * ratioMax, -lo * ratioMin]
    const steps = stepCount(quantizer)
    const raw = (quantizer.symmetric ? Math.max(above, below) : above + below) / steps
    const bounded = Math.min(Math.max(raw, low), high)
    const scale = quantizer.scaleDtype === 'float16' ? roundToFloat16(bounded) : bounded
    const zeroPoint = quantizer.symmetric
      ? 2 ** (quantizer.bits - 1)
      : Math.min(Math.max(roundHalfEven(below / scale), 0), top)
    let dScale = 0
    for (const at of members) {
      const unclamped = roundHalfEven(w[at]! / scale) + zeroPoint
      const code = Math.min(Math.max(unclamped, 0), top)
      const inside = code === unclamped
      dScale += dp[at]! * (code - zeroPoint - (inside ? w[at]! / scale : 0))
      if (inside) result.w[at] = dp[at]!
    }
    const dRaw = raw === bounded ? dScale : 0
    const share = (mine: number, other: number) => (quantizer.symmetric ? (mine > other ? 1 : mine === other ? 0.5 : 0) : 1)
    const dAbove = (dRaw / steps) * share(above, below)
    const dBelow = (dRaw / steps) * share(below, above)
    result.max[i] = dAbove * hi * ratioMax * (1 - ratioMax)
    result.min[i] = dBelow * -lo * ratioMin * (1 - ratioMin)
    result.hi[i] = dAbove * ratioMax
    result.lo[i] = -dBelow * ratioMin
  }
  return result
}

/** The same by `gradients()`. */
async function byGraph({ K, N, quantizer }: WeightCase, point: Point): Promise<Gradients> {
  const { count } = groupsOf(K, quantizer.group)
  const g = new Builder()
  const feeds: Tensors = {}
  const input = (name: 'w' | 'dp' | 'max' | 'min', dims: number[]) => {
    feeds[name] = floatTensor(dims, point[name], 'float64')
    return g.input(name, 'float64', dims)
  }
  const w = input('w', [K, N])
  const dp = input('dp', [K, N])
  const max = input('max', [count, N])
  const min = input('min', [count, N])
  // A range that is not computed from `w` as far as the gradient knows, as outside of a loop.
  const range = { ...emitWeightRange(g, w, quantizer.group) }
  const hoisted = (value: Value) => g.cast(g.op('Not', [g.op('Not', [g.cast(value, 'bool')])]), 'float64')
  const hi = g.mul(hoisted(range.hi), g.op('Identity', [range.hi]))
  void hi
  const ratios = { max: g.op('Sigmoid', [max]), min: g.op('Sigmoid', [min]) }
  const { output } = emitFakeQuantize(g, w, range, quantizer, ratios)
  const wrt = { w, max, min, hi: range.hi, lo: range.lo }
  const found = gradients(g, new Map([[output, dp]]), Object.values(wrt))
  for (const [name, value] of Object.entries(wrt)) g.output(g.op('Identity', [found.get(value)!]), `d_${name}`)
  const result = await runGraph(g.graph, feeds, { threads: 1 })
  return Object.fromEntries(Object.keys(wrt).map(name => [name, readNumbers(result[`d_${name}`]!)])) as unknown as Gradients
}
