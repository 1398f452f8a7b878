/** @file Walk from a value to the stored matrix: the ops it passes, and the reason where it ends. */

import { expect, test } from 'vitest'
import { dtypeNumber } from '../../src/graph/dtype.ts'
import { type Attribute, Node, Value } from '../../src/graph/ir.ts'
import { isRefused } from '../../src/graph/refusal.ts'
import { findStoredWeight } from '../../src/graph/stored-weight.ts'
import { floatTensor } from '../../src/graph/tensor.ts'

const stored = (...dims: number[]): Value => {
  const tensor = floatTensor(dims, new Float32Array(dims.reduce((a, b) => a * b, 1)))
  return new Value('weight', tensor.dtype, dims, tensor)
}

/** A node on top of `from`. */
function op(opType: string, from: Value, attributes: [string, Attribute][] = [], shape?: readonly number[]): Value {
  const output = new Value(opType, undefined, shape)
  new Node(opType, [from], [output], new Map(attributes))
  return output
}

const transpose = (from: Value, perm?: number[]): Value =>
  op('Transpose', from, perm ? [['perm', { type: 'ints', value: perm }]] : [])
const cast = (from: Value, dtype: 'float32' | 'int32'): Value =>
  op('Cast', from, [['to', { type: 'int', value: dtypeNumber(dtype) }]])

const weight = stored(4, 4)

test.each<[string, Value, boolean]>([
  ['itself', weight, false],
  ['Transpose without perm', transpose(weight), true],
  ['Transpose [1, 0]', transpose(weight, [1, 0]), true],
  ['Transpose [0, 1], which moves nothing', transpose(weight, [0, 1]), false],
  ['two Transposes', transpose(transpose(weight)), false],
  ['[1, 0] behind [0, 1]', transpose(transpose(weight, [0, 1]), [1, 0]), true],
  ['Cast and Identity', op('Identity', cast(transpose(weight), 'float32')), true],
  ['Reshape to the same shape', op('Reshape', weight, [], [4, 4]), false],
])('%s', (_, value, transposed) => {
  expect(findStoredWeight(value)).toEqual({ weight, tensor: weight.tensor, transposed })
})

test('a Constant node', () => {
  const tensor = floatTensor([2, 2], [1, 2, 3, 4])
  const constant = new Value('constant')
  new Node('Constant', [], [constant], new Map([['value', { type: 'tensor', value: tensor }]]))
  expect(findStoredWeight(transpose(constant))).toEqual({ weight: constant, tensor, transposed: true })
})

test.each<[Value, string]>([
  [op('Mul', weight), 'computed by Mul'],
  [op('Reshape', weight, [], [2, 8]), 'reshaped from [4, 4] before use'],
  [op('Reshape', weight), 'reshaped from [4, 4] before use'],
  [cast(cast(weight, 'int32'), 'float32'), 'rounded by a Cast'],
  [transpose(stored(2, 2, 2), [0, 2, 1]), 'stored as [2, 2, 2], which is no matrix'],
  [transpose(new Value('input', 'float32', [4, 4])), 'not stored in the file'],
])('no stored matrix: %#', (value, reason) => {
  const found = findStoredWeight(value)
  expect(isRefused(found)).toBe(true)
  expect(found).toMatchObject({ reason })
})
