/**
 * @file Quantizes activations per token while the model runs, and dequantizes them. The definition is in plain TypeScript. The graph
 * of it serves training, with straight-through gradients, and the exported model. All give the same numbers, bit for bit.
 */

import { customVjp } from '../autodiff/custom-vjp.ts'
import { reshaped } from '../autodiff/fragments.ts'
import { QuantError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/ir.ts'
import { staticShape } from '../graph/shape.ts'
import { elementCount } from '../graph/tensor.ts'
import { emitExtremes, type Extremes } from './extremes.ts'
import { FLOAT32_SCALES, qMax, roundHalfEven, symmetricZeroPoint } from './qparams.ts'
import { roundDetached, type Rounding } from './round-ste.ts'
import { emitCodes, emitProduct, type EmittedCodes } from './steps.ts'

/** Quantizer of activations, per token, over the token's own range. */
export interface ActivationQuantizer {
  /** Tells it from a RangeQuantizer (static-range.ts). */
  readonly kind?: 'token' | undefined
  /** 2 to 8. */
  readonly bits: number
  /** True makes 2^(bits-1) the code of zero. */
  readonly symmetric: boolean
}

/** Steps a token's range is divided in: max - min when asymmetric, its greater half when symmetric, which leaves the code 0 unused. */
function tokenSteps({ bits, symmetric }: ActivationQuantizer): number {
  return symmetric ? symmetricZeroPoint(bits) - 1 : qMax(bits)
}

/** @throws E_SCHEME when `bits` is not 2 to 8, or when `group` does not divide `channels`. */
function checkActivations({ bits }: ActivationQuantizer, channels: number, group: number): void {
  if (!Number.isInteger(bits) || bits < 2 || bits > 8)
    throw new QuantError('E_SCHEME', `${bits}-bit activations cannot be made`, 'Activations can have 2 to 8 bits.')
  if (!Number.isInteger(group) || group < 1 || channels % group !== 0)
    throw new QuantError(
      'E_SCHEME',
      `${channels} activations of a token cannot be cut in groups of ${group}`,
      'Groups must have one size: a divisor of the number of channels, such as the size of an attention head.',
    )
}

/**
 * Quantizes and dequantizes x, tokens of C numbers. With max = max(x, 0) and min = min(x, 0) of a token:
 * asymmetric scale = (max - min) / (2^bits - 1), zeroPoint = round(-min / scale);
 * symmetric  scale = max(max, -min) / (2^(bits-1) - 1), zeroPoint = 2^(bits-1);
 * code = clip(round(x / scale) + zeroPoint, 0, 2^bits - 1), y = (code - zeroPoint) * scale.
 * With ratios, max and min are multiplied by them first, and what is beyond is clipped. Scales are normal float32 numbers; a token of zeros gets the least of them. Rounding is half to even. Every operation is rounded to
 * float32, as in the exported model.
 * @throws E_SCHEME when `bits` is not 2 to 8, or C does not divide the length of x.
 */
export function fakeQuantizeTokens(x: Float32Array, C: number, quantizer: ClippedQuantizer): Float32Array {
  checkActivations(quantizer, x.length, C)
  const { fround } = Math
  const clamp = (value: number, low: number, high: number) => Math.min(Math.max(value, low), high)
  const round = (value: number) => fround(roundHalfEven(value))
  const { bits, symmetric, ratios = { min: 1, max: 1 } } = quantizer
  const y = new Float32Array(x.length)
  for (let first = 0; first < x.length; first += C) {
    const token = x.subarray(first, first + C)
    const max = fround(token.reduce((a, b) => Math.max(a, b), 0) * fround(ratios.max))
    const min = fround(token.reduce((a, b) => Math.min(a, b), 0) * fround(ratios.min))
    const width = symmetric ? Math.max(max, -min) : fround(max - min)
    const scale = clamp(fround(width / tokenSteps(quantizer)), ...FLOAT32_SCALES)
    const zeroPoint = symmetric ? symmetricZeroPoint(bits) : round(fround(-min / scale))
    token.forEach((value, i) => {
      const code = clamp(fround(round(fround(value / scale)) + zeroPoint), 0, qMax(bits))
      y[first + i] = fround(code - zeroPoint) * scale
    })
  }
  return y
}

/** Learned shares of a token's range that are quantized, in [0, 1]. */
export interface RangeRatios<T> {
  readonly min: T
  readonly max: T
}

/** Quantizer with the shares it ended with, float32 numbers; the whole range without them. */
export interface ClippedQuantizer extends ActivationQuantizer {
  readonly ratios?: RangeRatios<number> | undefined
}

/** The range of each token times the ratios, [] each; as it is without them. */
export function emitClippedRange(g: Builder, { lo, hi }: Extremes, ratios: RangeRatios<Value> | undefined): Extremes {
  if (!ratios) return { lo, hi }
  const share = (extreme: Value, ratio: Value, role: string) => g.op('Mul', [extreme, ratio], {}, { role })
  return { lo: share(lo, ratios.min, 'clipped_min'), hi: share(hi, ratios.max, 'clipped_max') }
}

/**
 * Codes of x [.., C] over the extremes of each row, lo <= 0 <= hi [.., 1]: the formulas of `fakeQuantizeTokens` as a graph.
 *
 * Training programs and the user's graph both take them from here, so the exported model computes what was trained. Two things differ
 * between them. The caller finds the extremes. `rounding` is by addition in programs, which is faster, and by Round in the user's
 * graph; the numbers are equal below 2^22 steps. The gradients are those of `emitFakeQuantizeTokens`; the user's graph has none.
 */
export function emitTokenCodes(
  g: Builder,
  x: Value,
  { lo, hi }: Extremes,
  quantizer: ActivationQuantizer,
  rounding: Rounding,
): EmittedCodes {
  const { bits, symmetric } = quantizer
  const number = (value: number) => g.scalar(value, x.dtype)
  const op = (role: string, opType: string, ...inputs: Value[]) => g.op(opType, inputs, {}, { role })
  const below = op('negated_min', 'Neg', lo)
  const width = symmetric ? op('width', 'Max', hi, below) : op('width', 'Sub', hi, lo)
  const step = op('step', 'Div', width, number(tokenSteps(quantizer)))
  const [least, most] = FLOAT32_SCALES.map(number) as [Value, Value]
  const scale = op('scale', 'Clip', step, least, most)
  customVjp(scale.producer!, (builder, _node, [dy]) => {
    if (!dy) return []
    const [above, under] = [builder.op('Greater', [step, least]), builder.op('Less', [step, most])]
    return [builder.mul(dy, builder.cast(builder.op('And', [above, under]), x.dtype!))]
  })
  const zeroPoint = symmetric
    ? symmetricZeroPoint(bits)
    : roundDetached(g, op('zero_steps', 'Div', below, scale), rounding, 'zero_point')
  return emitCodes(g, x, scale, zeroPoint, qMax(bits), rounding)
}

/**
 * Training graph of `fakeQuantizeTokens`, for numbers below 2^22 steps: x [.., C] -> [.., C], float32, or float64 (then nothing is
 * rounded to float32). `group` neighbours along the last axis share a scale, such as one attention head; C when absent.
 *
 * Gradients are those of OmniQuant's code under torch 2.14: round(x / scale) passes them on, the clamp does so strictly inside its
 * bounds, the zero point has none; they reach x directly and through the scale, that is through the token's extremes:
 *   dx = inside * dy + (x = max) * dmax / sum(x = max) + (x = min) * dmin / sum(x = min)
 *   dscale = sum of dy * (y - inside * x) / scale        dmax = -dmin = dscale / (2^bits - 1)
 * with dmax = 0 or dmin = 0 where that extreme is zero itself, both where a bound holds the scale, and dscale / (2^(bits-1) - 1) for
 * the greater of the two when symmetric.
 *
 * [512, 1024] and [512, 2816], forward and backward, 1 thread: 1.5 and 5.5 ms, of which forward 0.45 and 1.2, extremes backward 0.5
 * and 2; by the rules of the single operators 1.9 and 6.5. Slower or no faster than this: masks out of arithmetic instead of Equal,
 * and TopK or ArgMax with a scatter instead of Equal for the extremes. Where, And, Sign and ReduceSumSquare cost 3 to 10 passes each.
 * @throws E_SCHEME when `bits` is not 2 to 8, or `group` does not divide C.
 */
export function emitFakeQuantizeTokens(
  g: Builder,
  x: Value,
  quantizer: ActivationQuantizer,
  group: number = staticShape(x).at(-1)!,
  ratios?: RangeRatios<Value>,
): Value {
  const shape = staticShape(x)
  checkActivations(quantizer, shape.at(-1)!, group)
  const tokens = reshaped(g, x, [elementCount(shape) / group, group])
  const { lo, hi } = emitExtremes(g, tokens)
  const column = (value: Value) => g.reshape(value, [staticShape(value)[0]!, 1])
  const range = emitClippedRange(g, { lo: column(lo), hi: column(hi) }, ratios)
  const codes = emitTokenCodes(g, tokens, range, quantizer, 'addition')
  return reshaped(g, emitProduct(g, codes), shape)
}
