/**
 * @file Codes in the layout of com.microsoft MatMulNBits (opset 1). Knows no graph and no session; legend in qparams.ts.
 *
 * Layout: nb = ceil(K / blockSize) blocks along K. b [N, nb, blockSize * bits / 8], low bits first along K; scales [N, nb];
 * zeroPoints [N, ceil(nb * bits / 8)], low bits first along the blocks; without them zero is the code 2^(bits-1).
 */

import { internalError, QuantError } from '../../errors.ts'
import type { DType } from '../../graph/dtype.ts'
import { type Tensor, tensorOf } from '../../graph/tensor.ts'
import { toFloat16Bits } from '../float16.ts'
import { groupsOf, symmetricZeroPoint, type WeightQuantizer } from '../qparams.ts'
import type { QuantizedWeight } from '../weights.ts'

/** onnxruntime's CPU kernel takes these and the powers of two between them (onnxruntime 1.30). */
const MIN_BLOCK = 16

const MAX_BLOCK = 256

/** Blocks of 2-bit codes for which onnxruntime 1.30 has a kernel at accuracy_level 4, and the powers of two between them. */
const INT8_BLOCKS_OF_2_BITS = { least: 32, most: 128 }

/** Columns packed together, so that the bytes written to them stay in the cache. */
const TILE = 64

/** A quantized weight and what is needed to read it. */
export interface WeightCodes extends QuantizedWeight, WeightQuantizer {
  readonly K: number
  readonly N: number
  /** Block size; divides the group. `chooseBlockSize` chooses it when absent. */
  readonly blockSize?: number | undefined
}

/** The constants of a MatMulNBits node. `bits` is the width of the container, which can be wider than the codes. */
export interface PackedWeight {
  readonly bits: 2 | 4 | 8
  readonly blockSize: number
  readonly b: Tensor
  readonly scales: Tensor
  readonly zeroPoints?: Tensor
}

/** Width MatMulNBits stores codes of so many bits in. */
export function containerBits(bits: number): 2 | 4 | 8 {
  if (bits <= 2) return 2
  return bits <= 4 ? 4 : 8
}

/**
 * True where MatMulNBits at accuracy_level 4 rounds its input to 8 bits, per row and block (onnxruntime 1.30 on CPUs). Where it has no
 * such kernel it computes in float32, as at level 0.
 */
export const roundsInput = ({ bits, blockSize }: Pick<PackedLayout, 'bits' | 'blockSize'>): boolean =>
  bits !== 2 || (blockSize >= INT8_BLOCKS_OF_2_BITS.least && blockSize <= INT8_BLOCKS_OF_2_BITS.most)

/**
 * MatMulNBits' block_size for groups of `group` weights of K: the largest that divides the group and has a kernel at every
 * accuracy_level. A group of all of K is cut in blocks that repeat its scale; a short one is one block.
 * @throws E_SCHEME when blocks cannot follow the groups.
 */
export function chooseBlockSize(K: number, group: number, bits: number): number {
  let block = containerBits(bits) === 2 ? INT8_BLOCKS_OF_2_BITS.most : MAX_BLOCK
  if (group >= K) {
    while (block > MIN_BLOCK && block / 2 >= K) block /= 2
    return block
  }
  while (block > MIN_BLOCK && group % block !== 0) block /= 2
  if (group % block === 0) return block
  throw new QuantError(
    'E_SCHEME',
    `groups of ${group} weights cannot be stored: MatMulNBits has blocks of ${MIN_BLOCK} weights or more`,
    `Take a group that is a multiple of ${MIN_BLOCK}, best of all 32, 64 or 128, or one scale per channel.`,
  )
}

/** Layout of a weight in the container. */
export interface PackedLayout {
  readonly bits: 2 | 4 | 8
  readonly blockSize: number
  readonly blocks: number
  readonly blocksPerGroup: number
  /** Added to codes so that zero becomes the container's default zero point. */
  readonly shift: number
}

/** @throws E_SCHEME when blocks cannot follow the groups. */
export function packedLayout({
  K,
  group,
  bits,
  symmetric,
  ...given
}: Pick<WeightCodes, 'K' | 'group' | 'bits' | 'symmetric' | 'blockSize'>): PackedLayout {
  const container = containerBits(bits)
  const blockSize = given.blockSize ?? chooseBlockSize(K, group, bits)
  return {
    bits: container,
    blockSize,
    blocks: Math.ceil(K / blockSize),
    blocksPerGroup: Math.ceil(groupsOf(K, group).size / blockSize),
    shift: symmetric ? symmetricZeroPoint(container) - symmetricZeroPoint(bits) : 0,
  }
}

/** @throws E_SCHEME when blocks cannot follow the groups. */
export function packMatMulNBits(weight: WeightCodes): PackedWeight {
  const { K, N, codes, zeroPoint } = weight
  const layout = packedLayout(weight)
  const { count } = groupsOf(K, weight.group)
  if (codes.length !== K * N || weight.scale.length !== count * N || zeroPoint.length !== count * N) {
    throw internalError(
      `${codes.length} codes, ${weight.scale.length} scales and ${zeroPoint.length} zero points do not make a weight ` +
        `[${K}, ${N}] in ${count} groups`,
    )
  }
  return withScales(packCodes(weight, layout, perBlock(zeroPoint, N, layout)), weight)
}

/** Packed codes [N, blocks * blockSize * bits / 8] together with what they mean. */
export function withScales(codes: Uint8Array, weight: Omit<WeightCodes, 'codes'>): PackedWeight {
  const { N, scaleDtype } = weight
  const layout = packedLayout(weight)
  const { bits, blockSize, blocks } = layout
  const scales = perBlock(weight.scale, N, layout)
  return {
    bits,
    blockSize,
    b: tensorOf('uint8', [N, blocks, (blockSize * bits) / 8], codes),
    scales:
      scaleDtype === 'float16'
        ? tensorOf('float16', [N, blocks], toFloat16Bits(scales))
        : tensorOf('float32', [N, blocks], scales),
    ...(!weight.symmetric && { zeroPoints: packZeroPoints(perBlock(weight.zeroPoint, N, layout), N, layout) }),
  }
}

/** values [G, N] -> [N, blocks], each group's repeated for its blocks. */
function perBlock<T extends Float32Array | Uint8Array>(
  values: T,
  N: number,
  { blocks, blocksPerGroup }: PackedLayout,
): T {
  const result = new (values.constructor as new (length: number) => T)(N * blocks)
  for (let block = 0; block < blocks; block++) {
    const first = Math.floor(block / blocksPerGroup) * N
    for (let n = 0; n < N; n++) result[n * blocks + block] = values[first + n]!
  }
  return result
}

function packCodes({ codes, K, N }: WeightCodes, layout: PackedLayout, zeros: Uint8Array): Uint8Array {
  const { bits, blockSize, blocks, shift } = layout
  const perByte = 8 / bits
  const rowBytes = (blocks * blockSize) / perByte
  const fullBytes = Math.floor(K / perByte)
  const packed = new Uint8Array(N * rowBytes)
  for (let left = 0; left < N; left += TILE) {
    const right = Math.min(left + TILE, N)
    for (let at = 0; at < fullBytes; at++) {
      for (let n = left; n < right; n++) {
        let byte = 0
        let from = at * perByte * N + n
        for (let bit = 0; bit < 8; bit += bits, from += N) byte |= (codes[from]! + shift) << bit
        packed[n * rowBytes + at] = byte
      }
    }
  }
  // Behind the last weight comes padding that means zero.
  for (let n = 0; n < N; n++) {
    const padding = zeros[n * blocks + blocks - 1]! + shift
    for (let k = fullBytes * perByte; k < blocks * blockSize; k++) {
      const code = k < K ? codes[k * N + n]! + shift : padding
      const at = n * rowBytes + Math.floor(k / perByte)
      packed[at] = packed[at]! | (code << ((k % perByte) * bits))
    }
  }
  return packed
}

function packZeroPoints(zeros: Uint8Array, N: number, { bits, blocks }: PackedLayout): Tensor {
  const perByte = 8 / bits
  const rowBytes = Math.ceil(blocks / perByte)
  const packed = new Uint8Array(N * rowBytes)
  for (let n = 0; n < N; n++) {
    for (let block = 0; block < blocks; block++) {
      const at = n * rowBytes + Math.floor(block / perByte)
      packed[at] = packed[at]! | (zeros[n * blocks + block]! << ((block % perByte) * bits))
    }
  }
  return tensorOf('uint8', [N, rowBytes], packed)
}

/** Types that MatMulNBits computes in on CPUs (onnxruntime 1.30); the schema has bfloat16 too, for GPUs. */
export const hasNBitsKernel = (dtype: DType): boolean => dtype === 'float32' || dtype === 'float16'
