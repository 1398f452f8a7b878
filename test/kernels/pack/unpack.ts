/** @file Packed codes taken apart again: the inverses of the layouts in src/kernels/pack. */

import { readElements } from '../../../src/graph/tensor.ts'
import { readFloats } from '../../../src/kernels/float16.ts'
import { packedLayout, type PackedWeight, type WeightCodes } from '../../../src/kernels/pack/matmul-nbits.ts'
import type { PackedPlanes } from '../../../src/kernels/pack/planes.ts'
import { groupsOf, symmetricZeroPoint } from '../../../src/kernels/qparams.ts'
import type { QuantizedWeight } from '../../../src/kernels/weights.ts'

/** The inverse of `packMatMulNBits`: what was packed, given how. */
export function unpackMatMulNBits(
  packed: PackedWeight,
  how: Pick<WeightCodes, 'K' | 'N' | 'group' | 'bits' | 'symmetric'>,
): QuantizedWeight {
  const { K, N, group } = how
  const { bits, blockSize, blocks, blocksPerGroup, shift } = packedLayout(how)
  const { count } = groupsOf(K, group)
  const mask = (1 << bits) - 1
  const perByte = 8 / bits
  const field = (bytes: Uint8Array, row: number, rowBytes: number, i: number) =>
    (bytes[row * rowBytes + Math.floor(i / perByte)]! >> ((i % perByte) * bits)) & mask

  const bytes = readElements(packed.b) as Uint8Array
  const codes = new Uint8Array(K * N)
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < K; k++) codes[k * N + n] = field(bytes, n, (blocks * blockSize) / perByte, k) - shift
  }
  const scales = readFloats(packed.scales)
  const zeros = packed.zeroPoints && (readElements(packed.zeroPoints) as Uint8Array)
  const scale = new Float32Array(count * N)
  const zeroPoint = new Uint8Array(count * N)
  for (let n = 0; n < N; n++) {
    for (let i = 0; i < count; i++) {
      const block = i * blocksPerGroup
      scale[i * N + n] = scales[n * blocks + block]!
      zeroPoint[i * N + n] = zeros ? field(zeros, n, Math.ceil(blocks / perByte), block) : symmetricZeroPoint(how.bits)
    }
  }
  return { codes, scale, zeroPoint }
}

/** The codes [K, N] that `packPlanes` packed. */
export function unpackPlanes({ bits, K, N, planes }: PackedPlanes): Uint8Array {
  const codes = new Uint8Array(K * N)
  for (const { bits: width, shift, tensor } of planes) {
    const stored = readElements(tensor) as Uint8Array | Int8Array
    const columns = tensor.dims[1]!
    const offset = width === 8 ? symmetricZeroPoint(bits) : 0
    const mask = 2 ** width - 1
    for (let k = 0; k < K; k++) {
      for (let n = 0; n < N; n++) {
        const at = Math.floor(n / columns) * width
        codes[k * N + n]! |= (((stored[k * columns + (n % columns)]! + offset) >> at) & mask) << shift
      }
    }
  }
  return codes
}
