/**
 * @file Scale and zero point of a group of weights, in plain TypeScript and float32: the definition that fake-quantize.ts
 * writes as a graph and pack.ts stores.
 *
 * Legend, here and there: w [K, N] with K inFeatures and N outFeatures (ONNX MatMul orientation); a group is `group`
 * consecutive weights along K, the last one shorter when K is no multiple; G = ceil(K / group) groups; lo, hi, scale,
 * zeroPoint and clip ratios [G, N].
 */

import { QuantError } from '../errors.ts'
import { FLOAT16_MAX, roundToFloat16 } from './float16.ts'

/** How a weight is quantized. */
export interface WeightQuantizer {
  /** 2 to 8. */
  readonly bits: number
  /** Weights along K that share a scale; K or more means one scale per output channel. */
  readonly group: number
  /** Symmetric: zero is the code 2^(bits-1) in every group. */
  readonly symmetric: boolean
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

/** What codes mean: w = (code - zeroPoint) * scale. */
export interface QParams {
  readonly scale: Float32Array
  readonly zeroPoint: Uint8Array
}

/** Bounds of every scale, of weights and activations: those of OmniQuant's code. The lower one keeps zeros from dividing by zero. */
export const SCALE_MIN = 1e-5
export const SCALE_MAX = 1e4

/** Largest code of an asymmetric quantizer; codes start at 0. */
export const qMax = (bits: number): number => 2 ** bits - 1

/** Code of zero in a symmetric quantizer. */
export const symmetricZeroPoint = (bits: number): number => 2 ** (bits - 1)

/** Steps a range is divided in: hi - lo when asymmetric, its greater half when symmetric. */
export function stepCount({ bits, symmetric }: Pick<WeightQuantizer, 'bits' | 'symmetric'>): number {
  return symmetric ? 2 ** (bits - 1) - 1 : qMax(bits)
}

/**
 * Bounds of a scale. They keep groups of zeros from dividing by zero, and scales inside what their type can hold. A float16
 * scale may be subnormal: it is rounded before anything is quantized with it, so its coarser steps cost no exactness.
 */
export function scaleBounds({ scaleDtype }: WeightQuantizer): readonly [number, number] {
  return [SCALE_MIN, scaleDtype === 'float16' ? Math.min(SCALE_MAX, FLOAT16_MAX) : SCALE_MAX]
}

/** How K weights are cut in groups of `group`: as many as fit, at most K in one. */
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

/**
 * Refuses weights that are not numbers: one of them would spoil its whole group.
 * @throws E_UNSUPPORTED saying where; `what` names the weight.
 */
export function requireFinite(w: Float32Array, N: number, what: string): void {
  for (let i = 0; i < w.length; i++) {
    // x - x is 0 for every finite number and NaN for the others.
    if (w[i]! - w[i]! === 0) continue
    throw new QuantError(
      'E_UNSUPPORTED',
      `${what} holds ${w[i]} at [${Math.floor(i / N)}, ${i % N}]: only finite weights can be quantized`,
      'The file is damaged, or the model was saved after its training diverged: export it again.',
    )
  }
}

/** Rounds to an integer, half to even; right for every number below 2^51, and close beyond. */
export function roundHalfEven(x: number): number {
  return x + 1.5 * 2 ** 52 - 1.5 * 2 ** 52
}

/** lo and hi of every group of w [K, N]. @throws E_UNSUPPORTED when a weight is not finite. */
export function weightRange(w: Float32Array, K: number, N: number, group: number): WeightRange {
  requireFinite(w, N, `a weight [${K}, ${N}]`)
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
 * symmetric  scale = max(hi, -lo) / (2^(bits-1) - 1), zeroPoint = 2^(bits-1).
 * Every operation is rounded to float32, as the graph does it. A group of zeros gets the smallest scale and stays zero.
 */
export function affineQParams({ lo, hi }: WeightRange, quantizer: WeightQuantizer, clip?: ClipRatios): QParams {
  checkQuantizer(quantizer)
  const { bits, symmetric, scaleDtype } = quantizer
  const { fround } = Math
  const steps = stepCount(quantizer)
  const [low, high] = scaleBounds(quantizer).map(fround) as [number, number]
  const scale = new Float32Array(lo.length)
  const zeroPoint = new Uint8Array(lo.length)
  for (let i = 0; i < lo.length; i++) {
    const min = clip ? fround(lo[i]! * clip.min[i]!) : lo[i]!
    const max = clip ? fround(hi[i]! * clip.max[i]!) : hi[i]!
    const width = symmetric ? Math.max(max, -min) : fround(max - min)
    const bounded = clamp(fround(width / steps), low, high)
    scale[i] = scaleDtype === 'float16' ? roundToFloat16(bounded) : bounded
    zeroPoint[i] = symmetric ? symmetricZeroPoint(bits) : clamp(roundHalfEven(fround(-min / scale[i]!)), 0, qMax(bits))
  }
  return { scale, zeroPoint }
}
