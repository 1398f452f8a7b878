/**
 * @file Scale and zero point of a group of weights, in plain TypeScript and float32: the definition that kernels/weights.ts
 * writes as a graph and kernels/pack/matmul-nbits.ts stores.
 *
 * Legend, here and there: w [K, N] with K inFeatures and N outFeatures (ONNX MatMul orientation); a group is `group`
 * consecutive weights along K, the last one shorter when K is no multiple; G = ceil(K / group) groups; lo, hi, scale,
 * zeroPoint and clip ratios [G, N].
 */

import { QuantError } from '../errors.ts'
import { FLOAT16_LEAST, FLOAT16_MAX, roundToFloat16 } from './float16.ts'
import { requireSound } from './magnitude.ts'

/** Quantizer of a weight. */
export interface WeightQuantizer {
  /** 2 to 8. */
  readonly bits: number
  /** Weights along K that share a scale; K or more means one scale per output channel. */
  readonly group: number
  /** Symmetric: zero is the code 2^(bits-1) in every group, and scales have a sign. */
  readonly symmetric: boolean
  /**
   * Symmetric scales without a sign, for DequantizeLinear: TensorRT's parser refuses scales that are not positive ("Scale coefficients
   * must all be positive"), and so do WebNN (webmachinelearning/webnn#906) and Core ML (webmachinelearning/webnn#822).
   */
  readonly positiveScale?: boolean | undefined
  /** Type the scale is stored in; it is rounded to it before anything uses it, so that what is trained is what ships. */
  readonly scaleDtype: 'float32' | 'float16'
}

/** Least and greatest weight of each group, zero included: lo <= 0 <= hi. */
export interface WeightRange {
  readonly lo: Float32Array
  readonly hi: Float32Array
}

/** Factors on `lo` and `hi`, [G, N], between 0 and 1. */
export interface ClipRatios {
  readonly min: Float32Array
  readonly max: Float32Array
}

/** Parameters that give codes their meaning: w = (code - zeroPoint) * scale. */
export interface QParams {
  readonly scale: Float32Array
  readonly zeroPoint: Uint8Array
}

/**
 * Bounds of a float32 scale: the normal numbers. Zeros, which have no width, get the least of them and stay zero. Nothing else is
 * bounded: w and w * 2^k have the same codes, and scales that differ by 2^k.
 */
export const FLOAT32_SCALES: readonly [number, number] = [2 ** -126, (2 - 2 ** -23) * 2 ** 127]

/** The same of a float16 scale; the least is subnormal. */
const FLOAT16_SCALES: readonly [number, number] = [FLOAT16_LEAST, FLOAT16_MAX]

/** Largest code of an asymmetric quantizer; codes start at 0. */
export const qMax = (bits: number): number => 2 ** bits - 1

/** Code of zero in a symmetric quantizer. */
export const symmetricZeroPoint = (bits: number): number => 2 ** (bits - 1)

/** True where the scale of a symmetric group is negative: its greater end is `hi`, and codes reach farther below zero. */
const isTurned = ({ positiveScale }: Pick<WeightQuantizer, 'positiveScale'>, lo: number, hi: number): boolean =>
  !positiveScale && hi > -lo

/**
 * Steps from zero to the ends of a symmetric range, as many as leave no weight farther than half a step from a code: 2^(bits-1) on the
 * longer side of the codes, half a step beyond the last code on the other. A negative scale turns the longer side upward.
 */
export function symmetricSteps(bits: number, turned: boolean): { readonly below: number; readonly above: number } {
  const longer = symmetricZeroPoint(bits)
  const shorter = longer - 0.5
  return turned ? { below: shorter, above: longer } : { below: longer, above: shorter }
}

/** Bounds of a scale's magnitude: what its type can hold. */
export function scaleBounds({ scaleDtype }: Pick<WeightQuantizer, 'scaleDtype'>): readonly [number, number] {
  return scaleDtype === 'float16' ? FLOAT16_SCALES : FLOAT32_SCALES
}

/**
 * Float16 scales below this are rounded up. From here on they have 8 bits and more, and one that is rounded down loses half a step
 * at either end of 2^8 of them; the fewer bits of smaller ones would cut off as much as a third of the range. Rounded up, steps are
 * less than twice as wide as float32 scales would make them, and no wider than the distance of float16 weights where that is more.
 */
export const COARSE_FLOAT16: number = 2 ** -17

/** The magnitude that is stored for one within its bounds. */
export function storedScale(scale: number, { scaleDtype }: Pick<WeightQuantizer, 'scaleDtype'>): number {
  if (scaleDtype === 'float32') return scale
  return scale < COARSE_FLOAT16 ? Math.ceil(scale / FLOAT16_LEAST) * FLOAT16_LEAST : roundToFloat16(scale)
}

/** Size and number of the groups of K weights: `group` weights in each, or all K if there are fewer. */
export function groupsOf(K: number, group: number): { readonly size: number; readonly count: number } {
  const size = Math.min(group, K)
  return { size, count: Math.ceil(K / size) }
}

/** @throws E_SCHEME when there are no such bits or groups. */
export function checkQuantizer({ bits, group }: WeightQuantizer): void {
  if (!Number.isInteger(bits) || bits < 2 || bits > 8)
    throw new QuantError('E_SCHEME', `${bits}-bit weights cannot be made`, 'Weights can have 2 to 8 bits.')
  if (!Number.isInteger(group) || group < 1)
    throw new QuantError('E_SCHEME', `weights cannot be put in groups of ${group}`, 'A group has one weight or more.')
}

/** Rounds to an integer, half to even; right for every number below 2^51, and close beyond. */
export function roundHalfEven(x: number): number {
  return x + 1.5 * 2 ** 52 - 1.5 * 2 ** 52
}

/** lo and hi of every group of w [K, N]. @throws E_UNSUPPORTED when a weight is no sound number. */
export function weightRange(w: Float32Array, K: number, N: number, group: number): WeightRange {
  requireSound(w, N, `a weight [${K}, ${N}]`)
  const { size, count } = groupsOf(K, group)
  const lo = new Float32Array(count * N)
  const hi = new Float32Array(count * N)
  for (let k = 0; k < K; k++) {
    const first = Math.floor(k / size) * N
    for (let n = 0; n < N; n++) {
      const value = w[k * N + n]!
      if (value < lo[first + n]!) lo[first + n] = value
      else if (value > hi[first + n]!) hi[first + n] = value
    }
  }
  return { lo, hi }
}

const clamp = (x: number, low: number, high: number): number => Math.min(Math.max(x, low), high)

/**
 * Scale and zero point of every group (arXiv 2308.13137 eq. 2). With lo, hi times their clip ratios:
 * asymmetric scale = (hi - lo) / (2^bits - 1), zeroPoint = round(-lo / scale);
 * symmetric  scale = max(-lo / 2^(bits-1), hi / (2^(bits-1) - 1/2)) where -lo >= hi, otherwise -max(hi / 2^(bits-1), -lo / (2^(bits-1) - 1/2));
 * zeroPoint = 2^(bits-1). Without a sign, always the first.
 * Every operation is rounded to float32, as the graph does it. A group of zeros gets the least scale and stays zero.
 *
 * Symmetric codes reach from -2^(bits-1) to 2^(bits-1) - 1 around zero. The sign gives the longer side to the greater end, as
 * onnxruntime's own quantizer does; choosing it by error gains nothing (docs/accuracy.md). It is that of the whole range: clipping never
 * turns it.
 */
export function affineQParams({ lo, hi }: WeightRange, quantizer: WeightQuantizer, clip?: ClipRatios): QParams {
  checkQuantizer(quantizer)
  const { bits, symmetric } = quantizer
  const { fround } = Math
  const [low, high] = scaleBounds(quantizer)
  const scale = new Float32Array(lo.length)
  const zeroPoint = new Uint8Array(lo.length)
  for (let i = 0; i < lo.length; i++) {
    const min = clip ? fround(lo[i]! * clip.min[i]!) : lo[i]!
    const max = clip ? fround(hi[i]! * clip.max[i]!) : hi[i]!
    const turned = symmetric && isTurned(quantizer, lo[i]!, hi[i]!)
    const { below, above } = symmetricSteps(bits, turned)
    const step = symmetric
      ? Math.max(fround(max / above), fround(-min / below))
      : fround(fround(max - min) / qMax(bits))
    const magnitude = storedScale(clamp(step, low, high), quantizer)
    scale[i] = turned ? -magnitude : magnitude
    zeroPoint[i] = symmetric ? symmetricZeroPoint(bits) : clamp(roundHalfEven(fround(-min / magnitude)), 0, qMax(bits))
  }
  return { scale, zeroPoint }
}
