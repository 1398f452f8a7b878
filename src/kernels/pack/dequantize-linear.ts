/**
 * @file Codes in the layout of ai.onnx DequantizeLinear (opset 21). Knows no graph; legend in qparams.ts.
 *
 * Layout: codes [K, N], row-major. Those of 4 bits lie two in a byte, the first one in the low half, without gaps between rows.
 * Groups: scales and zero points [G, N]. One scale per output channel: [N]. Symmetric codes are signed and less by 2^(bits-1), so
 * that no zero point is needed.
 */

import { internalError } from '../../errors.ts'
import type { DType } from '../../graph/dtype.ts'
import { type Tensor, tensorOf } from '../../graph/tensor.ts'
import { toFloat16Bits } from '../float16.ts'
import { groupsOf, symmetricZeroPoint, type WeightQuantizer } from '../qparams.ts'
import type { WeightCodes } from './matmul-nbits.ts'

/** The constants of a DequantizeLinear node, w = (codes - zeroPoints) * scales. `bits` is the width of the container. */
export interface PackedDequantize {
  readonly bits: 4 | 8
  /** Weights along K that share a scale; undefined: all of them. */
  readonly blockSize: number | undefined
  /** int4, uint4, int8 or uint8 [K, N]. */
  readonly codes: Tensor
  /** [G, N], or [N] with one scale per output channel. */
  readonly scales: Tensor
  /** Zero points, of the type of `codes` and the shape of `scales`; zeros when absent. */
  readonly zeroPoints?: Tensor
}

/** Width of the type that codes of so many bits are stored in. Types of 2 bits came with opset 25; int4 and uint4 hold them. */
export const dequantizeBits = (bits: number): 4 | 8 => (bits <= 4 ? 4 : 8)

/** Version of ai.onnx that blocks and types of 4 bits came with. */
export const BLOCKED_OPSET = 21

/**
 * Least version of ai.onnx whose DequantizeLinear takes a weight: 13 has 8 bits and one scale per output channel, 19 has float16
 * scales, 21 has blocks and 4 bits.
 */
export function dequantizeOpset(K: number, { bits, group, scaleDtype }: Omit<WeightQuantizer, 'symmetric'>): number {
  if (dequantizeBits(bits) < 8 || group < K) return BLOCKED_OPSET
  return scaleDtype === 'float16' ? 19 : 13
}

/** Packs a weight for DequantizeLinear. Codes of 2 and 3 bits take 4 bits each, those of 5 to 7 take 8. */
export function packDequantize(weight: WeightCodes): PackedDequantize {
  const { K, N, codes, scale, zeroPoint, symmetric, scaleDtype } = weight
  const { size, count } = groupsOf(K, weight.group)
  if (codes.length !== K * N || scale.length !== count * N || zeroPoint.length !== count * N) {
    throw internalError(
      `${codes.length} codes, ${scale.length} scales and ${zeroPoint.length} zero points do not make a weight ` +
        `[${K}, ${N}] in ${count} groups`,
    )
  }
  const bits = dequantizeBits(weight.bits)
  const dtype = `${symmetric ? 'int' : 'uint'}${bits}` as const
  const middle = symmetric ? symmetricZeroPoint(weight.bits) : 0
  const dims = size === K ? [N] : [count, N]
  return {
    bits,
    blockSize: size === K ? undefined : size,
    codes: packIntegers(dtype, [K, N], codes, middle),
    scales:
      scaleDtype === 'float16' ? tensorOf('float16', dims, toFloat16Bits(scale)) : tensorOf('float32', dims, scale),
    ...(!symmetric && { zeroPoints: packIntegers(dtype, dims, zeroPoint, 0) }),
  }
}

/** values - middle as a tensor. */
function packIntegers(
  dtype: DType & ('int4' | 'uint4' | 'int8' | 'uint8'),
  dims: readonly number[],
  values: Uint8Array,
  middle: number,
): Tensor {
  const isByte = dtype === 'int8' || dtype === 'uint8'
  const data = new Uint8Array(isByte ? values.length : Math.ceil(values.length / 2))
  if (isByte) for (let i = 0; i < data.length; i++) data[i] = values[i]! - middle
  else
    for (let i = 0; i < values.length; i++) {
      const half = (values[i]! - middle) & 15
      data[i >> 1]! |= i % 2 === 0 ? half : half << 4
    }
  return { dtype, dims, data }
}
