/**
 * @file Quantizing a weight and back, twice: in plain TypeScript, which is the definition, and as a graph with straight-through
 * gradients, which is what trains. Both give the same codes and the same weights, bit for bit. Legend in qparams.ts.
 */

import { padded, reshaped } from '../autodiff/fragments.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { checkShape, staticShape } from '../graph/shape.ts'
import { emitExtremes, type Extremes } from './extremes.ts'
import { FLOAT16_LEAST } from './float16.ts'
import {
  affineQParams,
  checkQuantizer,
  type ClipRatios,
  COARSE_FLOAT16,
  groupsOf,
  qMax,
  type QParams,
  roundHalfEven,
  scaleBounds,
  symmetricSteps,
  symmetricZeroPoint,
  type WeightQuantizer,
  weightRange,
} from './qparams.ts'
import { roundDetached, straightThrough } from './round-ste.ts'
import { emitCodes, emitProduct, plainCodes } from './steps.ts'

/** A weight as codes: w ~ (codes - zeroPoint) * scale, codes [K, N] row-major. */
export interface QuantizedWeight extends QParams {
  readonly codes: Uint8Array
}

/**
 * q = clamp(round(w / scale) + zeroPoint, 0, 2^bits - 1), rounded half to even; without `clip`, round-to-nearest.
 * w float32 [K, N], row-major.
 * @throws E_UNSUPPORTED when a weight is no sound number, E_SCHEME when the quantizer cannot be.
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

/** Range of a weight, from `emitWeightRange`. For a constant weight it is computed once, outside the loop. */
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
 *
 * Gradients reach w from lo and hi as extremes.ts says. For a weight that changes every step: of [1024, 2816] per channel the range
 * takes 1.5 ms on 1 thread and its gradient 5 (8 and 12 with one reduction and its op's own rule), quantizing both ways another 8.
 */
export function emitWeightRange(g: Builder, w: Value, group: number): EmittedRange {
  const grouped = groupedRows(g, w, group)
  return { ...emitExtremes(g, grouped), grouped }
}

/** w [K, N] -> [G, group, N]; zeros fill up the last group. */
function groupedRows(g: Builder, w: Value, group: number): Value {
  const [K, N] = checkShape(new Map(), w, ['K', 'N']) as [number, number]
  const { size, count } = groupsOf(K, group)
  return reshaped(g, padded(g, w, [0, 0, count * size - K, 0]), [count, size, N])
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

/** Learned numbers that change how a weight is quantized, as values of a program. */
export interface LearnedQuantizer {
  /** Ratios in [0, 1] of the range. */
  readonly ratios?: EmittedRatios | undefined
  /** Steps that are added to w / scale before rounding, [K, N]. */
  readonly offset?: Value | undefined
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
  { ratios, offset }: LearnedQuantizer = {},
): FakeQuantized {
  checkQuantizer(quantizer)
  const [K, N] = checkShape(new Map(), w, ['K', 'N']) as [number, number]
  const { size, count } = groupsOf(K, quantizer.group)
  checkShape(new Map(), range.grouped, [count, size, N])
  const { scale, zeroPoint } = emitQParams(g, range, quantizer, ratios)
  const rows = (value: Value) => g.reshape(value, [count, 1, N])
  const steps = emitCodes(
    g,
    range.grouped,
    rows(scale),
    zeroPoint ? rows(zeroPoint) : symmetricZeroPoint(quantizer.bits),
    qMax(quantizer.bits),
    'addition',
    offset && groupedRows(g, offset, quantizer.group),
  )
  const product = emitProduct(g, steps)
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
      return (codesValue ??= ungrouped(plainCodes(g, steps)))
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

/** The float16 scale that is stored for `scale`, in its own type, with the identity as gradient. */
function float16Scale(g: Builder, scale: Value): Value {
  const nearest = g.cast(g.cast(scale, 'float16'), scale.dtype!)
  const above = g.scale(g.op('Ceil', [g.scale(scale, 1 / FLOAT16_LEAST)]), FLOAT16_LEAST)
  // Above is the greater one below COARSE_FLOAT16, and from there on held down to it, the nearest one is.
  const coarse = g.op('Min', [above, g.scalar(COARSE_FLOAT16, scale.dtype)])
  return straightThrough(g, g.op('Max', [nearest, coarse]), scale)
}

/** Sign of symmetric scales and the steps of either side of the range, [G, N] or numbers, without gradients: `symmetricSteps` as a graph. */
function emitSides(
  g: Builder,
  { lo, hi }: Extremes,
  { bits, positiveScale }: WeightQuantizer,
): { readonly sign: Value; readonly below: Value; readonly above: Value } {
  const straight = symmetricSteps(bits, false)
  if (positiveScale) {
    const number = (value: number) => g.scalar(value, lo.dtype)
    return { sign: number(1), below: number(straight.below), above: number(straight.above) }
  }
  const turned = symmetricSteps(bits, true)
  const isTurned = g.cast(g.op('Greater', [hi, g.neg(lo)]), lo.dtype!)
  const either = (usual: number, other: number) => g.shift(g.scale(isTurned, other - usual), usual)
  return {
    sign: either(1, -1),
    below: either(straight.below, turned.below),
    above: either(straight.above, turned.above),
  }
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
  const [low, high] = scaleBounds(quantizer)
  const bounded = (step: Value) => {
    const clipped = g.op('Clip', [step, number(low), number(high)])
    return quantizer.scaleDtype === 'float16' ? float16Scale(g, clipped) : clipped
  }
  if (quantizer.symmetric) {
    const { sign, below, above } = emitSides(g, { lo, hi }, quantizer)
    const step = g.op('Max', [g.div(max, above), g.div(g.neg(min), below)])
    return { scale: g.mul(bounded(step), sign), zeroPoint: undefined }
  }
  const top = qMax(quantizer.bits)
  const scale = bounded(g.div(g.sub(max, min), number(top)))
  const rounded = roundDetached(g, g.div(g.neg(min), scale))
  return { scale, zeroPoint: g.op('Clip', [rounded, number(0), number(top)]) }
}
