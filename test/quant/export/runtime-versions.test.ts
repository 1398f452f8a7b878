/** @file The least onnxruntime of a file, from its products. */

import { expect, test } from 'vitest'
import { runtimeNeed } from '../../../src/quant/export/runtime-versions.ts'
import type { StoredProduct } from '../../../src/quant/terms/kernel.ts'

const product = (given: Partial<StoredProduct>): StoredProduct => ({
  ...{ op: 'MatMulNBits', K: 64, N: 64, bits: 4, block: 32, zeroPoints: 'integer', level: 0 },
  ...{ dtype: 'float32', bias: false },
  ...given,
})

test.each<[string, Partial<StoredProduct>[], string, string[]]>([
  ['4 bits', [{}], '1.20', ['MatMulNBits of 4 bits']],
  ['8 bits, level 4', [{ bits: 8, level: 4 }], '1.22', ['MatMulNBits of 8 bits']],
  ['8 bits, level 0', [{ bits: 8 }], '1.23', ['MatMulNBits of 8 bits and accuracy level 0']],
  ['2 bits', [{ bits: 2 }], '1.24', ['MatMulNBits of 2 bits']],
  ['2 bits in float16', [{ bits: 2, dtype: 'float16' }], '1.28', ['MatMulNBits of 2 bits in float16']],
  ['a table of 4 bits', [{ op: 'GatherBlockQuantized' }, {}], '1.23', ['GatherBlockQuantized of 4 bits']],
  ['a table of 2 bits', [{ op: 'GatherBlockQuantized', bits: 2 }], '1.27', ['GatherBlockQuantized of 2 bits']],
  ['experts', [{ op: 'QMoE' }, { bits: 2 }], '1.25', ['QMoE']],
  ['experts of 2 bits', [{ op: 'QMoE', bits: 2 }], '1.27', ['QMoE of 2 bits']],
  ['integer products', [{ op: 'MatMulIntegerToFloat', bits: 8 }], '1.20', ['MatMulIntegerToFloat']],
  ['qdq of 2 bits', [{ op: 'qdq', bits: 2 }], '1.24', ['DequantizeLinear of 2 bits']],
])('%s', (_, products, least, because) => {
  expect(runtimeNeed(products.map(product))).toEqual({ least, because })
})

test('2 bits at level 4 run earlier than they are fast', () => {
  expect(runtimeNeed([product({ bits: 2, level: 4 })])).toEqual({
    least: '1.24',
    because: ['MatMulNBits of 2 bits'],
    fast: '1.28',
  })
  expect(runtimeNeed([product({ bits: 2, level: 4, dtype: 'float16' })])).toMatchObject({ least: '1.28' })
  expect(runtimeNeed([product({ bits: 2, level: 4, dtype: 'float16' })])).not.toHaveProperty('fast')
})

test('a file without quantized products needs nothing', () => {
  expect(runtimeNeed([])).toBeUndefined()
  expect(runtimeNeed([product({ op: 'float weight' })])).toBeUndefined()
})
