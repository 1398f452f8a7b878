/**
 * @file Codes of 2 to 8 bits as bytes on disk that plain ONNX operators take apart again. Knows no graph; legend in
 * qparams.ts, one scale per output channel.
 *
 * Layout: a code is cut in planes of 4 and 2 bits. A plane of `bits` bits holds P = 8 / bits codes in a byte: it is uint8
 * [K, C], C = ceil(N / P), and byte j of a row has column j in its lowest bits, column C + j above it, and so on: what comes
 * out of shifting a whole plane is C neighbouring columns, so nothing has to be interleaved. Bits behind column N are zero.
 * Codes of 7 and 8 bits are one int8 plane, code - 2^(bits-1).
 */

import { internalError, QuantError } from '../../errors.ts'
import { type Tensor, tensorOf } from '../../graph/tensor.ts'
import { symmetricZeroPoint } from '../qparams.ts'
import type { QuantizedWeight } from '../weights.ts'

/** Some bits of every code: `bits` of them, beginning at bit `shift`. An 8-bit plane is int8 and less by 2^(bits-1). */
export interface Plane {
  readonly bits: 2 | 4 | 8
  readonly shift: number
  readonly tensor: Tensor
}

/** A weight [K, N] with one scale and zero point per column, w = (code - zeroPoint) * scale. */
export interface PackedPlanes {
  readonly bits: number
  readonly K: number
  readonly N: number
  /** Lowest bits first. */
  readonly planes: readonly Plane[]
  /** [N]. */
  readonly scale: Float32Array
  /** [N]. */
  readonly zeroPoint: Uint8Array
  /** Sum of code - zeroPoint of each column, [N]. */
  readonly columnSums: Int32Array
}

/** Codes of a weight with one scale per output channel. */
export interface ChannelCodes extends QuantizedWeight {
  readonly bits: number
  readonly K: number
  readonly N: number
}

/** Every product of two 8-bit numbers, summed up to here, fits an int32: (2^31 - 1) / (128 * 255). */
const MAX_K = 65793

/** Widths of the planes of a code, lowest bits first. */
function planeWidths(bits: number): readonly (2 | 4 | 8)[] {
  if (bits <= 2) return [2]
  if (bits <= 4) return [4]
  return bits <= 6 ? [4, 2] : [8]
}

/** Bits on disk of a code of `bits`. */
export const planeBits = (bits: number): number => planeWidths(bits).reduce((sum, width) => sum + width, 0)

/**
 * Packs a weight in planes: 2, 4, 4, 6, 6, 8, 8 bits a weight on disk for codes of 2 to 8 bits.
 * @throws E_UNSUPPORTED when K is so large that sums of products overflow.
 */
export function packPlanes({ codes, scale, zeroPoint, bits, K, N }: ChannelCodes): PackedPlanes {
  if (codes.length !== K * N || scale.length !== N || zeroPoint.length !== N || bits < 2 || bits > 8) {
    throw internalError(
      `${codes.length} codes of ${bits} bits, ${scale.length} scales and ${zeroPoint.length} zero points do not make ` +
        `a weight [${K}, ${N}]`,
    )
  }
  if (K > MAX_K) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `a weight [${K}, ${N}] cannot be multiplied with integers: sums of more than ${MAX_K} products overflow`,
      'Quantize this model in groups.',
    )
  }
  const widths = planeWidths(bits)
  const planes = widths.map((width, i): Plane => {
    const shift = widths.slice(0, i).reduce((sum, below) => sum + below, 0)
    return { bits: width, shift, tensor: width === 8 ? bytePlane(codes, bits, K, N) : plane(codes, width, shift, K, N) }
  })
  const columnSums = new Int32Array(N)
  for (let k = 0; k < K; k++) for (let n = 0; n < N; n++) columnSums[n]! += codes[k * N + n]! - zeroPoint[n]!
  return { bits, K, N, planes, scale, zeroPoint, columnSums }
}

function bytePlane(codes: Uint8Array, bits: number, K: number, N: number): Tensor {
  // Int8Array.from with a function takes some hundred nanoseconds an element.
  const bytes = new Int8Array(codes.length)
  const zero = symmetricZeroPoint(bits)
  for (let i = 0; i < bytes.length; i++) bytes[i] = codes[i]! - zero
  return tensorOf('int8', [K, N], bytes)
}

function plane(codes: Uint8Array, width: 2 | 4, shift: number, K: number, N: number): Tensor {
  const mask = 2 ** width - 1
  const columns = Math.ceil((N * width) / 8)
  const bytes = new Uint8Array(K * columns)
  for (let k = 0; k < K; k++) {
    for (let left = 0, at = 0; left < N; left += columns, at += width) {
      const right = Math.min(left + columns, N)
      for (let n = left; n < right; n++) bytes[k * columns + n - left]! |= ((codes[k * N + n]! >> shift) & mask) << at
    }
  }
  return tensorOf('uint8', [K, columns], bytes)
}
