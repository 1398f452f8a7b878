/**
 * @file Quantizes activations over a range that is fixed before the model runs, one for the whole tensor. The definition is in plain
 * TypeScript; the graph of it serves training, with straight-through gradients. The exported model has ai.onnx QuantizeLinear and
 * DequantizeLinear. All give the same numbers, bit for bit.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import { reshaped } from '../autodiff/fragments.ts'
import { QuantError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { elementCount } from '../graph/tensor.ts'
import type { Extremes } from './extremes.ts'
import { FLOAT32_SCALES, qMax, roundHalfEven } from './qparams.ts'
import { roundSte } from './round-ste.ts'
import type { ClippedQuantizer } from './tokens.ts'

/** Quantizer of activations over a fixed range, asymmetric. */
export interface RangeQuantizer {
  readonly kind: 'static'
  /** 8 or 16: the widths of the unsigned integers QuantizeLinear makes. */
  readonly bits: number
}

/** Range that is quantized; numbers beyond it are clipped. */
export interface ActivationRange {
  readonly lo: number
  readonly hi: number
}

/** Constants of QuantizeLinear and DequantizeLinear: x = (code - zeroPoint) * scale. */
export interface RangeSteps {
  /** A float32 number. */
  readonly scale: number
  readonly zeroPoint: number
}

/** Quantizer with the constants it ended with. */
export interface FixedQuantizer extends RangeQuantizer, RangeSteps {}

/** Quantizer of a value as the exported model has it. */
export type WrittenQuantizer = ClippedQuantizer | FixedQuantizer

/** Bits that activations over a fixed range can have. */
export const STATIC_BITS: readonly number[] = [8, 16]

/** @throws E_SCHEME when `bits` is neither 8 nor 16. */
function checkRangeQuantizer({ bits }: Pick<RangeQuantizer, 'bits'>): void {
  if (STATIC_BITS.includes(bits)) return
  throw new QuantError(
    'E_SCHEME',
    `${bits}-bit static activations cannot be made`,
    `Static activations can have ${STATIC_BITS.join(' or ')} bits.`,
  )
}

/**
 * Constants of a range. With lo = min(lo, 0) and hi = max(hi, 0), so that zero has a code of its own:
 * scale = (hi - lo) / (2^bits - 1), a normal float32 number; zeroPoint = round(-lo / scale), half to even.
 * @throws E_SCHEME when `bits` is neither 8 nor 16.
 */
export function rangeSteps({ lo, hi }: ActivationRange, quantizer: Pick<RangeQuantizer, 'bits'>): RangeSteps {
  checkRangeQuantizer(quantizer)
  const { fround } = Math
  const below = fround(Math.max(-lo, 0))
  const width = fround(fround(Math.max(hi, 0)) + below)
  const [least, most] = FLOAT32_SCALES
  const scale = Math.min(Math.max(fround(width / qMax(quantizer.bits)), least), most)
  return { scale, zeroPoint: roundHalfEven(fround(below / scale)) }
}

/**
 * Quantizes and dequantizes x, as QuantizeLinear and DequantizeLinear do (ai.onnx 10 and later):
 * code = clip(round(x / scale) + zeroPoint, 0, 2^bits - 1), y = (code - zeroPoint) * scale, rounded half to even.
 */
export function fakeQuantizeRange(
  x: Float32Array,
  { bits, scale, zeroPoint }: Omit<FixedQuantizer, 'kind'>,
): Float32Array {
  const { fround } = Math
  const [first, last] = [-zeroPoint, qMax(bits) - zeroPoint]
  return x.map(value => Math.min(Math.max(roundHalfEven(fround(value / scale)), first), last) * scale)
}

/** Constants of a range as scalars of a program. */
export interface EmittedSteps {
  readonly scale: Value
  readonly zeroPoint: Value
}

/** min(lo, 0) or max(hi, 0), with the gradient of the bound itself: one that reached zero can leave it again. */
function withZero(g: Builder, pick: 'Min' | 'Max', bound: Value): Value {
  const value = g.op(pick, [bound, g.scalar(0, bound.dtype)])
  customVjp(value.producer!, (_g, _node, [dy]) => [dy])
  return value
}

/**
 * `rangeSteps` as a graph: lo, hi [] -> scale, zeroPoint [], float32 or float64.
 *
 * Gradients: those of scale and zeroPoint by their formulas, with the rounding of the zero point passed straight through
 * (LSQ+, arXiv 2004.09576, which learns an offset too); none where a bound holds the scale.
 */
export function emitRangeSteps(g: Builder, { lo, hi }: Extremes, { bits }: RangeQuantizer): EmittedSteps {
  const below = g.neg(withZero(g, 'Min', lo))
  const width = g.add(withZero(g, 'Max', hi), below)
  const [least, most] = FLOAT32_SCALES.map(value => g.scalar(value, lo.dtype))
  const scale = g.op('Clip', [g.op('Div', [width, g.scalar(qMax(bits), lo.dtype)]), least, most])
  return { scale, zeroPoint: roundSte(g, g.div(below, scale)) }
}

/** a . b of all elements, []: one pass over both that writes nothing. */
function dot(g: Builder, a: Value, b: Value): Value {
  const count = elementCount(staticShape(a))
  return g.reshape(g.matMul(reshaped(g, a, [1, count]), reshaped(g, b, [count, 1])), [])
}

/**
 * Training graph of `fakeQuantizeRange`, for numbers below 2^22 steps: x of any shape -> the same shape, float32 or float64.
 *
 * Written as y = scale * round(clip(x, first, last) / scale) with first = -zeroPoint * scale, last = (2^bits - 1 - zeroPoint) * scale:
 * the same codes. Gradients are those of clip(x, first, last) + scale * r, with the rounding error r held fixed in steps (PACT, arXiv
 * 1805.06085, for the clip; LSQ, arXiv 1902.08153, for the scale): x has them inside the range, a bound has what was clipped at it,
 * and the scale what rounding lost.
 */
export function emitFakeQuantizeRange(
  g: Builder,
  x: Value,
  { scale, zeroPoint }: EmittedSteps,
  { bits }: Pick<RangeQuantizer, 'bits'>,
): Value {
  const first = g.mul(g.neg(zeroPoint), scale)
  const last = g.mul(g.shift(g.neg(zeroPoint), qMax(bits)), scale)
  const clipped = g.op('Clip', [x, first, last])
  const beyond = (builder: Builder, comparison: 'Less' | 'Greater', bound: Value, dy: Value) =>
    dot(builder, dy, builder.cast(builder.op(comparison, [x, bound]), x.dtype!))
  customVjp(clipped.producer!, (builder, _node, [dy], needs) => {
    if (!dy) return []
    const inside = builder.cast(builder.op('Equal', [x, clipped]), x.dtype!)
    return [
      needs[0] ? builder.mul(inside, dy) : undefined,
      needs[1] ? beyond(builder, 'Less', first, dy) : undefined,
      needs[2] ? beyond(builder, 'Greater', last, dy) : undefined,
    ]
  })
  const ratio = g.div(clipped, scale)
  const rounded = roundSte(g, ratio)
  const y = g.mul(rounded, scale)
  // The gradient travels from y to `clipped` as it is; all that the scale gets besides is collected at y.
  customVjp(ratio.producer!, (_g, _node, [dy]) => [dy])
  customVjp(y.producer!, (builder, _node, [dy], needs) => [
    dy,
    dy && needs[1] ? builder.div(dot(builder, dy, builder.sub(y, clipped)), scale) : undefined,
  ])
  return y
}
