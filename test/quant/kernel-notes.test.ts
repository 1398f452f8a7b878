/** @file Notes about products that are slow where they will run, with the measured ratio. */

import { expect, test } from 'vitest'
import { kernelNotes } from '../../src/quant/kernel-notes.ts'
import type { NamedProduct } from '../../src/quant/terms/kernel.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import type { TargetName } from '../../src/quant/terms/targets.ts'

const product = (name: string, given: Partial<NamedProduct> = {}): NamedProduct => ({
  ...{ name, op: 'MatMulNBits', K: 2048, N: 2048, bits: 4, block: 32, zeroPoints: 'integer', level: 0 },
  ...{ dtype: 'float32', bias: false },
  ...given,
})

const notes = (
  inBlocks: readonly NamedProduct[],
  target: TargetName = 'cpu',
  outside: readonly NamedProduct[] = [],
  lmHead: 4 | 'float' = 4,
) => {
  const options = { target, scheme: parseScheme('w4a16'), lmHead: lmHead === 'float' ? undefined : lmHead }
  return kernelNotes({ inBlocks, outside }, options)
}

const slow = { bits: 2, block: 128 } as const

test('4 bits at level 4 say nothing, 2 bits at level 0 say how slow a token is', () => {
  expect(notes([product('q', { level: 4 }), product('k', { level: 4 })])).toEqual([])
  expect(notes([product('q', slow), product('k', { ...slow, block: 64 })])).toEqual([
    'the linears of the blocks (MatMulNBits of 2 bits, blocks of 128 and 64, accuracy level 0) have no fast kernel on cpu ' +
      '("dequantized at every call"); one token takes about 20 times as long as in the float model; "int8 activations" wants accuracy level 4',
  ])
})

test('one linear among others: the ratio of its product', () => {
  expect(notes([product('layers.0.q', { bits: 8, block: 64 }), product('layers.1.q', { level: 4 })])).toEqual([
    'layers.0.q (MatMulNBits of 8 bits, blocks of 64, accuracy level 0) has no fast kernel on cpu ("dequantized at every call"); ' +
      'such a product of one token takes about 55 times as long as in float; "int8 activations" wants accuracy level 4',
  ])
})

test('lm_head is a line of its own', () => {
  const [note, ...rest] = notes([product('q', { level: 4 })], 'cpu', [product('lm_head', { bits: 8 })])
  expect(note).toMatch(/^lm_head \(MatMulNBits of 8 bits.*about 26 times as long/)
  expect(rest).toEqual([])
})

test('what is only slower than it could be is said too', () => {
  const [note] = notes([product('q')])
  expect(note).toMatch(
    /take the kernel "float activations" on cpu; one token is 1\.3 times as fast.*wants accuracy level 4$/,
  )
  expect(notes([product('q', { level: 4 })])).toEqual([])
})

test('a product without a kernel; more names than fit are counted', () => {
  const linears = ['a', 'b', 'c', 'd', 'e'].map(name => product(name, name === 'e' ? {} : slow))
  expect(notes(linears, 'directml')).toEqual([
    '4 weights (MatMulNBits of 2 bits, blocks of 128, accuracy level 0) have no kernel on directml; ' +
      '"GEMM of DirectML" wants 4 or 8 bits, not 2',
  ])
})

test('shapes that the user cannot change are no note', () => {
  expect(notes([product('q', { K: 320, level: 4, zeroPoints: 'none' })], 'webgpu')).toEqual([])
})

test('an lm_head that stays float, where the target has a kernel for it', () => {
  expect(notes([product('q', { level: 4 })], 'cpu', [], 'float')[0]).toMatch(
    /^lm_head stays float: .* 3\.9 times .* 2\.3 times/,
  )
  expect(notes([product('q', { level: 4, zeroPoints: 'none' })], 'webgpu', [], 'float')).toEqual([])
})
