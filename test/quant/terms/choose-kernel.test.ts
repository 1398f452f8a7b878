/** @file The kernel of a product on each target, and what a faster one wants. */

import { describe, expect, test } from 'vitest'
import { kernelOf } from '../../../src/quant/terms/choose-kernel.ts'
import type { StoredProduct } from '../../../src/quant/terms/kernel.ts'
import { TARGET_NAMES, type TargetName } from '../../../src/quant/terms/targets.ts'

const product = (given: Partial<StoredProduct> = {}): StoredProduct => ({
  op: 'MatMulNBits',
  K: 2048,
  N: 2048,
  bits: 4,
  block: 32,
  zeroPoints: 'none',
  level: 4,
  dtype: 'float32',
  bias: false,
  ...given,
})

describe('kernel, and wishes of a faster one', () => {
  test.each<[TargetName, Partial<StoredProduct>, string, string[]]>([
    ['cpu', {}, 'int8 activations', []],
    ['cpu', { zeroPoints: 'integer', block: 256 }, 'int8 activations', []],
    ['cpu', { level: 0 }, 'float activations', ['accuracy level 4']],
    ['cpu', { bits: 8, block: 16 }, 'int8 activations', []],
    ['cpu', { bits: 8, level: 0 }, 'dequantized at every call', ['accuracy level 4']],
    ['cpu', { bits: 2, block: 128 }, 'int8 activations', []],
    ['cpu', { bits: 2, block: 256 }, 'dequantized at every call', ['blocks of 32, 64 or 128, not 256']],
    [
      'cpu',
      { bits: 2, block: 16, level: 0 },
      'dequantized at every call',
      ['accuracy level 4', 'blocks of 32, 64 or 128, not 16'],
    ],
    ['cpu', { zeroPoints: 'float' }, 'dequantized at every call', ['integer zero points']],
    ['web', {}, 'dequantized at every call', ['quantized activations, as w8a8 has them']],
    ['web', { op: 'GatherBlockQuantized' }, 'none', ['Gather of a float table instead of GatherBlockQuantized']],
    ['webgpu', {}, 'fused decode', []],
    ['webgpu', { zeroPoints: 'integer' }, 'int8 dot products (dp4a)', ['no zero points']],
    ['webgpu', { block: 128 }, 'int8 dot products (dp4a)', ['blocks of 32, not 128']],
    ['webgpu', { level: 0 }, 'wide tiles', ['accuracy level 4']],
    ['webgpu', { block: 16, level: 0 }, 'plain', ['blocks of 32, not 16', 'accuracy level 4']],
    ['webgpu', { zeroPoints: 'float' }, 'none', ['no zero points']],
    ['cuda', { dtype: 'float16' }, 'tensor cores (fpA_intB, with ep.cuda.fpa_intb_gemm=1)', []],
    [
      'cuda',
      { dtype: 'float16', block: 256 },
      'dequantized at every call, then cuBLAS',
      ['blocks of 32, 64 or 128, not 256'],
    ],
    ['cuda', { bits: 2 }, 'dequantized at every call, then cuBLAS', ['4 or 8 bits, not 2']],
    ['directml', { zeroPoints: 'integer' }, 'GEMM of DirectML', []],
    ['directml', { bits: 2 }, 'none', ['4 or 8 bits, not 2']],
    ['openvino-npu', { op: 'qdq', block: 2048 }, 'mixed-precision MatMul', []],
    ['openvino-npu', { op: 'qdq', block: 128 }, 'dequantized first', ['one scale per output, not blocks of 128']],
    ['openvino-npu', {}, 'none', ['qdq instead of MatMulNBits']],
    ['qnn', { op: 'qdq', block: 2048, zeroPoints: 'integer' }, 'dequantized first', ['no zero points']],
    ['tensorrt-rtx', { op: 'qdq', block: 128 }, 'weight-only GEMM', []],
    ['portable', { op: 'qdq' }, 'DequantizeLinear and MatMul', []],
  ])('%s %o: %s', (target, given, name, wants) => {
    const chosen = kernelOf(target, product(given))
    expect(chosen.name).toBe(name)
    expect(chosen.faster?.wants ?? []).toEqual(wants)
  })
})

describe('shapes that keep a product from a faster kernel', () => {
  test.each<[TargetName, Partial<StoredProduct>, string, string[]]>([
    ['webgpu', { K: 320 }, 'wide tiles', ['K a multiple of 128, not 320']],
    ['webgpu', { N: 100 }, 'wide tiles', ['N a multiple of 16, not 100']],
    ['cuda', {}, 'vector kernel for one token', ['a float16 model, not float32']],
    [
      'cuda',
      { dtype: 'float16', K: 2040 },
      'vector kernel for one token',
      ['K a multiple of the block, not 2040 in blocks of 32'],
    ],
    ['cuda', { dtype: 'float16', N: 32 }, 'vector kernel for one token', ['N a multiple of 64, not 32']],
    ['directml', { bias: true }, 'none', ['no bias input']],
  ])('%s %o: %s', (target, given, name, shapeWants) => {
    expect(kernelOf(target, product(given))).toMatchObject({ name, shapeWants, faster: undefined })
  })
})

test('speeds are the measured ones: 2 and 8 bits at level 0 are far below float', () => {
  const speed = (given: Partial<StoredProduct>) => kernelOf('cpu', product(given)).speed
  expect(speed({ bits: 2, level: 0, block: 128 })).toEqual({ token: 0.05, product: 0.1 / 4.8 })
  expect(speed({ bits: 8, level: 0, block: 128 })).toEqual({ token: 0.07, product: 0.1 / 5.5 })
  expect(speed({})).toEqual({ token: 2.28 })
  expect(speed({ bits: 2, block: 64 })!.token).toBeGreaterThan(1)
})

test('a float weight runs everywhere', () => {
  for (const target of TARGET_NAMES)
    expect(kernelOf(target, product({ op: 'float weight' })).name).toBe('float product')
})
