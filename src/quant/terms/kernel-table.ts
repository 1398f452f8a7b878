/**
 * @file Kernels of each target, the fastest first, with what they want and their measured speed. CPU: onnxruntime 1.30, x64 with
 * AVX512-VNNI, 2026-11-20; the other rows are read in the sources that targets.ts names. Knows no model.
 */

import type { Kernel, KernelNeed, KernelSpeed, StoredProduct } from './kernel.ts'
import type { StoredBits, TargetName } from './targets.ts'

const listed = (values: readonly number[]): string =>
  values.length === 1 ? String(values[0]) : `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`

/** A fixed wish. */
const need = (
  holds: KernelNeed['holds'],
  wants: string | ((product: StoredProduct) => string),
  optional = true,
): KernelNeed => ({ holds, wants: typeof wants === 'string' ? () => wants : wants, optional })

const level4 = need(({ level }) => level === 4, 'accuracy level 4')

const bits = (...choices: readonly StoredBits[]): KernelNeed =>
  need(
    product => choices.includes(product.bits),
    product => `${listed(choices)} bits, not ${product.bits}`,
  )

const blocks = (...choices: readonly number[]): KernelNeed =>
  need(
    ({ block }) => block === undefined || choices.includes(block),
    ({ block }) => `blocks of ${listed(choices)}, not ${block}`,
  )

const noZeroPoints = need(({ zeroPoints }) => zeroPoints === 'none', 'no zero points')

const noFloatZeroPoints = need(({ zeroPoints }) => zeroPoints !== 'float', 'integer zero points')

const noBias = need(({ bias }) => !bias, 'no bias input', false)

const onePerOutput = need(
  ({ block, K }) => block === undefined || K === undefined || block >= K,
  ({ block }) => `one scale per output, not blocks of ${block}`,
)

const multiple = (of: 'K' | 'N', factor: number): KernelNeed =>
  need(
    product => product[of] === undefined || product[of] % factor === 0,
    product => `${of} a multiple of ${factor}, not ${product[of]}`,
    false,
  )

const wholeBlocks = need(
  ({ K, block }) => K === undefined || block === undefined || K % block === 0,
  ({ K, block }) => `K a multiple of the block, not ${K} in blocks of ${block}`,
  false,
)

const narrowType = need(
  ({ dtype }) => dtype === 'float16' || dtype === 'bfloat16',
  ({ dtype }) => `a float16 model, not ${dtype}`,
  false,
)

/** The 2-bit kernel of CPUs has these blocks; wider and narrower ones fall back. */
const narrowBlocks = need(
  ({ bits: width, block }) => width !== 2 || block === undefined || [32, 64, 128].includes(block),
  ({ block }) => `blocks of 32, 64 or 128, not ${block}`,
)

/** A product with float activations never has them. */
const quantizedActivations = need(() => false, 'quantized activations, as w8a8 has them')

/** Speed of one token of a whole model (hidden 2048, 4 layers, one thread, groups of 128), by stored bits. */
const TOKEN: Readonly<Record<'int8' | 'float' | 'unpacked', Partial<Record<StoredBits, number>>>> = {
  int8: { 2: 2.6, 4: 2.28, 8: 1.83 },
  float: { 4: 1.32 },
  unpacked: { 2: 0.05, 8: 0.07 },
}

/** Milliseconds of one token (K = N = 2048, 2 threads) where codes are dequantized at every call, by stored bits and block. */
const UNPACKED_MS: Readonly<Record<StoredBits, Readonly<Record<number, number>>>> = {
  2: { 16: 5.3, 32: 5.2, 64: 5, 128: 4.8, 256: 4.7 },
  // With float zero points; all others have a kernel.
  4: { 32: 0.45 },
  8: { 16: 3.2, 32: 2.6, 64: 5.5, 128: 5.5, 256: 2.1 },
}

const FLOAT_MS = 0.1

/** Speed where all of B is dequantized at every call. */
function unpacked({ bits: width, block = 32 }: StoredProduct): KernelSpeed {
  const ms = UNPACKED_MS[width][block] ?? UNPACKED_MS[width][32]!
  const token = TOKEN.unpacked[width]
  return { ...(token !== undefined && { token }), product: FLOAT_MS / ms }
}

const tokenOf =
  (kernel: keyof typeof TOKEN) =>
  ({ bits: width }: StoredProduct): KernelSpeed | undefined => {
    const token = TOKEN[kernel][width]
    return token === undefined ? undefined : { token }
  }

/** Speed of one token of the same model: groups of 128 with a float lm_head, groups of 32 with lm_head and embedding in 4 bits (level 4). */
export const HEAD_SPEED: Partial<Record<TargetName, { readonly float: number; readonly quantized: number }>> = {
  cpu: { float: 2.3, quantized: 3.9 },
}

const speed = (known: KernelSpeed) => (): KernelSpeed => known

const TABLE_ROWS: Kernel = { name: 'row lookup', ops: ['GatherBlockQuantized'], needs: [] }

const FLOAT: Kernel = { name: 'float product', ops: ['float weight'], needs: [], speed: speed({ token: 1 }) }

const EXPERTS: Kernel = { name: 'QMoE', ops: ['QMoE'], needs: [] }

/** A target for files of standard operators, with its wishes. */
const standard = (name: string, needs: readonly KernelNeed[]): readonly Kernel[] => [
  { name, ops: ['qdq'], needs },
  { name: 'dequantized first', ops: ['qdq'], needs: [] },
  FLOAT,
]

export const KERNELS: Readonly<Record<TargetName, readonly Kernel[]>> = {
  cpu: [
    {
      name: 'int8 activations',
      ops: ['MatMulNBits'],
      needs: [level4, narrowBlocks, noFloatZeroPoints],
      speed: tokenOf('int8'),
    },
    {
      name: 'float activations',
      ops: ['MatMulNBits'],
      needs: [bits(4), noFloatZeroPoints],
      speed: tokenOf('float'),
    },
    { name: 'dequantized at every call', ops: ['MatMulNBits'], needs: [], speed: unpacked },
    { name: 'uint8 times int8', ops: ['MatMulIntegerToFloat'], needs: [], speed: speed({ product: 0.1 / 0.041 }) },
    // onnxruntime fuses it to a MatMulNBits of accuracy level 4.
    { name: 'int8 activations (fused)', ops: ['qdq'], needs: [narrowBlocks], speed: tokenOf('int8') },
    { name: 'dequantized at every call', ops: ['qdq'], needs: [], speed: unpacked },
    EXPERTS,
    TABLE_ROWS,
    FLOAT,
  ],
  web: [
    { name: 'uint8 times int8', ops: ['MatMulIntegerToFloat'], needs: [], speed: speed({ token: 0.88 }) },
    { name: 'uint8 times int8', ops: ['MatMulNBits', 'qdq'], needs: [quantizedActivations] },
    // 0.11 to 0.18, by bits and blocks.
    { name: 'dequantized at every call', ops: ['MatMulNBits', 'qdq'], needs: [], speed: speed({ token: 0.14 }) },
    FLOAT,
  ],
  webgpu: [
    {
      name: 'fused decode',
      ops: ['MatMulNBits'],
      needs: [bits(4), blocks(32), noZeroPoints, level4, multiple('K', 128), multiple('N', 16)],
    },
    {
      name: 'int8 dot products (dp4a)',
      ops: ['MatMulNBits'],
      needs: [level4, blocks(32, 64, 128, 256), noFloatZeroPoints, multiple('K', 128), multiple('N', 16)],
    },
    {
      name: 'wide tiles',
      ops: ['MatMulNBits'],
      needs: [bits(4, 8), blocks(32), noFloatZeroPoints, multiple('K', 4)],
    },
    { name: 'plain', ops: ['MatMulNBits'], needs: [noFloatZeroPoints] },
    { name: 'dequantized first', ops: ['qdq'], needs: [] },
    EXPERTS,
    TABLE_ROWS,
    FLOAT,
  ],
  cuda: [
    {
      name: 'tensor cores (fpA_intB, with ep.cuda.fpa_intb_gemm=1)',
      ops: ['MatMulNBits'],
      needs: [bits(4, 8), blocks(32, 64, 128), noFloatZeroPoints, narrowType, multiple('N', 64), wholeBlocks],
    },
    {
      name: 'vector kernel for one token',
      ops: ['MatMulNBits'],
      needs: [bits(4, 8), blocks(16, 32, 64, 128), noFloatZeroPoints, noBias, multiple('N', 8), multiple('K', 8)],
    },
    { name: 'dequantized at every call, then cuBLAS', ops: ['MatMulNBits', 'qdq'], needs: [] },
    EXPERTS,
    TABLE_ROWS,
    FLOAT,
  ],
  directml: [
    { name: 'GEMM of DirectML', ops: ['MatMulNBits'], needs: [bits(4, 8), noFloatZeroPoints, noBias] },
    { name: 'dequantized first', ops: ['qdq'], needs: [] },
    { name: 'uint8 times int8', ops: ['MatMulIntegerToFloat'], needs: [] },
    TABLE_ROWS,
    FLOAT,
  ],
  qnn: standard('FullyConnected of HTP', [noZeroPoints, onePerOutput, bits(4, 8)]),
  'openvino-npu': standard('mixed-precision MatMul', [noZeroPoints, onePerOutput, bits(4, 8)]),
  'tensorrt-rtx': standard('weight-only GEMM', [noZeroPoints, bits(4, 8)]),
  portable: [{ name: 'DequantizeLinear and MatMul', ops: ['qdq'], needs: [] }, FLOAT],
}
