/**
 * @file Quantizing a weight and back, twice: in plain TypeScript, which is the definition, and as a graph with straight-through
 * gradients, which is what trains. Both give the same codes and the same weights, bit for bit. Legend in qparams.ts.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import { padded, reshaped } from '../autodiff/fragments.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { checkShape, staticShape } from '../graph/shape.ts'
import { tensorOf } from '../graph/tensor.ts'
import {
  affineQParams,
  checkQuantizer,
  type ClipRatios,
  groupsOf,
  qMax,
  type QParams,
  roundHalfEven,
  scaleBounds,
  stepCount,
  symmetricZeroPoint,
  weightRange,
  type WeightQuantizer,
} from './qparams.ts'
import { castRoundSte, roundDetached, roundingConstant } from './round-ste.ts'

/** A weight as codes: w ~ (codes - zeroPoint) * scale, codes [K, N] row-major. */
export interface QuantizedWeight extends QParams {
  readonly codes: Uint8Array
}

/**
 * q = clamp(round(w / scale) + zeroPoint, 0, 2^bits - 1), rounded half to even; without `clip`, round-to-nearest.
 * w float32 [K, N], row-major.
 * @throws E_UNSUPPORTED when a weight is not finite, E_SCHEME when the quantizer cannot be.
 */
export function quantizeWeight(
  w: Float32Array,
  K: number,
  N: number,
  quantizer: WeightQuantizer,
  clip?: ClipRatios,
): QuantizedWeight {
  const { size } = groupsOf(K, quantizer.group)
  const { scale, zeroPoint } = affineQParams(weightRange(w, K, N, quantizer.group), quantizer, clip)
  const codes = new Uint8Array(K * N)
  const top = qMax(quantizer.bits)
  for (let k = 0; k < K; k++) {
    const first = Math.floor(k / size) * N
    for (let n = 0; n < N; n++) {
      const steps = roundHalfEven(Math.fround(w[k * N + n]! / scale[first + n]!))
      codes[k * N + n] = Math.min(Math.max(steps + zeroPoint[first + n]!, 0), top)
    }
  }
  return { codes, scale, zeroPoint }
}

/** (codes - zeroPoint) * scale, float32 [K, N]. */
export function dequantize(
  { codes, scale, zeroPoint }: QuantizedWeight,
  K: number,
  N: number,
  group: number,
): Float32Array {
  const { size } = groupsOf(K, group)
  const w = new Float32Array(K * N)
  for (let k = 0; k < K; k++) {
    const first = Math.floor(k / size) * N
    for (let n = 0; n < N; n++) w[k * N + n] = (codes[k * N + n]! - zeroPoint[first + n]!) * scale[first + n]!
  }
  return w
}

/** What `emitWeightRange` finds out about a weight; for a constant weight worth computing once, outside the loop. */
export interface EmittedRange {
  /** Least and greatest weight of each group, zero included, [G, N]. */
  readonly lo: Value
  readonly hi: Value
  /** The weight as [G, group, N]; zeros fill up the last group. */
  readonly grouped: Value
}

/**
 * Range of each group of w [K, N], float32 or float64. A last group shorter than the others is filled up with zeros, which
 * changes nothing: zero counts as a member of every group.
 */
export function emitWeightRange(g: Builder, w: Value, group: number): EmittedRange {
  const [K, N] = checkShape(new Map(), w, ['K', 'N']) as [number, number]
  const { size, count } = groupsOf(K, group)
  const grouped = reshaped(g, padded(g, w, [0, 0, count * size - K, 0]), [count, size, N])
  const zero = g.scalar(0, w.dtype)
  const bound = (reduce: string, pick: string) =>
    g.op(pick, [g.op(reduce, [grouped, g.ints([1])], { keepdims: 0 }), zero])
  return { lo: bound('ReduceMin', 'Min'), hi: bound('ReduceMax', 'Max'), grouped }
}

export interface FakeQuantized {
  /** The weight after quantizing and back, [K, N]. */
  readonly output: Value
  /** Codes as floating-point numbers, [K, N]. Written into the program when first asked for: training does not need them. */
  readonly codes: Value
  /** [G, N] */
  readonly scale: Value
  /** [G, N], as floating-point numbers. */
  readonly zeroPoint: Value
}

/** Clip ratios as values of a program, [G, N]. */
export interface EmittedRatios {
  readonly min: Value
  readonly max: Value
}

/**
 * The graph of `dequantize(quantizeWeight(w))`: w [K, N] over `range`, which is that of this weight. float32, or float64 (then
 * with nothing rounded to float32).
 *
 * Gradients are straight-through: round(w / scale) passes them on, the clamp does so strictly inside its bounds, the zero point has
 * none. They reach w, the ratios and, if computed in the same graph, the range.
 * @throws E_SCHEME when the quantizer cannot be.
 */
export function emitFakeQuantize(
  g: Builder,
  w: Value,
  range: EmittedRange,
  quantizer: WeightQuantizer,
  ratios?: EmittedRatios,
): FakeQuantized {
  checkQuantizer(quantizer)
  const [K, N] = checkShape(new Map(), w, ['K', 'N']) as [number, number]
  const { size, count } = groupsOf(K, quantizer.group)
  checkShape(new Map(), range.grouped, [count, size, N])
  const { scale, zeroPoint } = emitQParams(g, range, quantizer, ratios)
  const rows = (value: Value) => g.reshape(value, [count, 1, N])
  const { product, codes } = emitSteps(
    g,
    range.grouped,
    rows(scale),
    zeroPoint && rows(zeroPoint),
    qMax(quantizer.bits),
    symmetricZeroPoint(quantizer.bits),
  )
  const ungrouped = (value: Value) => {
    const all = reshaped(g, value, [count * size, N])
    return count * size === K ? all : g.slice(all, 0, 0, K)
  }
  let codesValue: Value | undefined
  let zeroPointValue = zeroPoint
  return {
    output: ungrouped(product),
    scale,
    get codes() {
      return (codesValue ??= ungrouped(codes()))
    },
    get zeroPoint() {
      return (zeroPointValue ??= constant(g, symmetricZeroPoint(quantizer.bits), scale))
    },
  }
}

/** `value` in the shape and type of `like`. */
function constant(g: Builder, value: number, like: Value): Value {
  return g.op('Expand', [g.scalar(value, like.dtype), g.ints(staticShape(like) as number[])])
}

/**
 * x [G, group, N] -> [G, 1, N]. As a product with ones: ReduceSum over a middle axis runs on one core and along the stride,
 * 2 to 9 ms for a weight of 1024 x 2816 that the product sums in a tenth of one.
 */
function sumOverGroup(g: Builder, x: Value): Value {
  const size = staticShape(x)[1]!
  const ones = x.dtype === 'float64' ? new Float64Array(size).fill(1) : new Float32Array(size).fill(1)
  return g.matMul(g.initializer('ones', tensorOf(x.dtype!, [1, size], ones)), x)
}

/** `affineQParams` as a graph; no zero point when symmetric, where it is constant. */
function emitQParams(
  g: Builder,
  { lo, hi }: EmittedRange,
  quantizer: WeightQuantizer,
  ratios: EmittedRatios | undefined,
): { scale: Value; zeroPoint: Value | undefined } {
  const number = (value: number) => g.scalar(value, lo.dtype)
  const min = ratios ? g.mul(lo, ratios.min) : lo
  const max = ratios ? g.mul(hi, ratios.max) : hi
  const width = quantizer.symmetric ? g.op('Max', [max, g.neg(min)]) : g.sub(max, min)
  const [low, high] = scaleBounds(quantizer)
  const bounded = g.op('Clip', [g.div(width, number(stepCount(quantizer))), number(low), number(high)])
  const scale = quantizer.scaleDtype === 'float16' ? castRoundSte(g, bounded, 'float16') : bounded
  if (quantizer.symmetric) return { scale, zeroPoint: undefined }
  const rounded = roundDetached(g, g.div(g.neg(min), scale))
  return { scale, zeroPoint: g.op('Clip', [rounded, number(0), number(qMax(quantizer.bits))]) }
}

/**
 * The passes over the weight, as few as could be found. [1024, 2816] in groups of 128, forward and backward, 2 idle cores: 3.4 ms,
 * against 6.6 ms with Round and Where, which cost two and five times what an addition does.
 *
 * w [G, group, N], scale and zeroPoint [G, 1, N]. Forward, with the rounding constant M of round-ste.ts:
 *   t = w/scale + M      u = t + (zeroPoint - M)      q = clip(u, 0, top)      c = q - zeroPoint      product = c * scale
 * A constant zero point needs one pass less: q = clip(t, M - zp, M - zp + top), c = q - M.
 *
 * Backward, with p = product and inside = (0 < u < top), the gradient of torch's clamp from 2.14 on: none at the bounds
 * themselves, so that the end codes learn as the weights beyond them do. (Before 2.14 it passed at the bounds; training then
 * follows another path, and the losses of ../shared/golden, which were made with 2.14.1, part from ours at the second step.)
 *   dscale = sum of dp * (c - inside * w/scale) = sum of dp * (p - inside * w) / scale       dw = inside * dp
 * written so that p, which products keep anyway, and w are read again instead of intermediate results being kept.
 */
function emitSteps(
  g: Builder,
  w: Value,
  scale: Value,
  zeroPoint: Value | undefined,
  top: number,
  constantZeroPoint: number,
): { product: Value; codes: () => Value } {
  const number = (value: number) => g.scalar(value, w.dtype)
  const M = roundingConstant(w)
  const ratio = g.div(w, scale)
  const t = g.shift(ratio, M)
  const u = zeroPoint ? g.add(t, g.shift(zeroPoint, -M)) : t
  const first = zeroPoint ? 0 : M - constantZeroPoint
  const q = g.op('Clip', [u, number(first), number(first + top)])
  const c = zeroPoint ? g.sub(q, zeroPoint) : g.shift(q, -M)
  const product = g.mul(c, scale)
  const inside = (builder: Builder) => {
    const between = builder.op('Clip', [u, number(first + 1), number(first + top - 1)])
    return builder.cast(builder.op('Equal', [u, between]), w.dtype!)
  }

  // From the product back to the division the walk carries dp as it is: c * scale = w wherever nothing was clamped.
  for (const { producer } of [u, q, c]) customVjp(producer!, (_g, _node, [dp]) => [dp])
  customVjp(product.producer!, (builder, _node, [dp], needs) => {
    if (!dp || !needs[1]) return [dp]
    const error = builder.sub(product, builder.mul(inside(builder), w))
    return [dp, builder.div(sumOverGroup(builder, builder.mul(error, dp)), scale)]
  })
  customVjp(ratio.producer!, (builder, _node, [dp], needs) => [
    dp && needs[0] ? builder.mul(inside(builder), dp) : undefined,
  ])
  return { product, codes: () => (zeroPoint ? q : g.shift(q, -first)) }
}
