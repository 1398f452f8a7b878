/** @file Quantized products are read from the nodes of a file, whoever wrote it. */

import { expect, test } from 'vitest'
import type { DType } from '../../../src/graph/dtype.ts'
import { type Attribute, Graph, newModel, Node, Value } from '../../../src/graph/ir.ts'
import { type Tensor, tensorOf } from '../../../src/graph/tensor.ts'
import { findProducts } from '../../../src/quant/find/products.ts'

const bytes = (dims: readonly number[], dtype: DType = 'uint8'): Tensor => ({
  ...tensorOf('uint8', dims, new Uint8Array(dims.reduce((a, b) => a * b, 1))),
  dtype,
})

const floats = (dims: readonly number[]): Tensor =>
  tensorOf('float32', dims, new Float32Array(dims.reduce((a, b) => a * b, 1)))

/** A graph of nodes over stored tensors. */
class File {
  readonly graph = new Graph('file')
  private count = 0

  stored(name: string, tensor: Tensor): Value {
    const value = new Value(name, tensor.dtype, tensor.dims, tensor)
    this.graph.initializers.push(value)
    return value
  }

  node(
    opType: string,
    inputs: (Value | undefined)[],
    ints: Record<string, number> = {},
    domain = '',
    name = '',
  ): Value {
    const output = new Value(`v${this.count++}`, 'float32')
    const attributes = Object.entries(ints).map(([key, value]): [string, Attribute] => [key, { type: 'int', value }])
    this.graph.nodes.push(new Node(opType, inputs, [output], new Map(attributes), domain, name))
    return output
  }

  products() {
    return [...findProducts(newModel(this.graph)).values()]
  }
}

const x = new Value('x', 'float32', [1, 64])

test('MatMulNBits with float zero points and a bias; defaults of its attributes', () => {
  const file = new File()
  const inputs = [
    x,
    file.stored('b', bytes([32, 2, 16])),
    file.stored('s', floats([32, 2])),
    file.stored('z', floats([32, 2])),
  ]
  const bias = file.stored('bias', floats([32]))
  file.node(
    'MatMulNBits',
    [...inputs, undefined, bias],
    { K: 64, N: 32, block_size: 32 },
    'com.microsoft',
    '/model/layers.0/mlp/up_proj/MatMul_Q4',
  )
  expect(file.products()).toEqual([
    {
      ...{ name: 'layers.0.mlp.up_proj', op: 'MatMulNBits', K: 64, N: 32, bits: 4, block: 32 },
      ...{ zeroPoints: 'float', level: 0, dtype: 'float32', bias: true },
    },
  ])
})

test('DequantizeLinear before a product: blocked, per channel behind a Transpose; not before anything else', () => {
  const file = new File()
  const blocked = file.node(
    'DequantizeLinear',
    [file.stored('w', bytes([64, 32], 'int4')), file.stored('s', floats([2, 32]))],
    {
      axis: 0,
      block_size: 32,
    },
  )
  file.node('MatMul', [x, blocked])
  const rows = [
    file.stored('w8', bytes([32, 64], 'int8')),
    file.stored('s8', floats([32])),
    file.stored('z8', bytes([32], 'int8')),
  ]
  const turned = file.node('Transpose', [file.node('DequantizeLinear', rows, { axis: 0 })])
  file.node('MatMul', [x, turned])
  file.node('Neg', [file.node('DequantizeLinear', [file.stored('n', bytes([4, 4])), file.stored('sn', floats([]))])])
  expect(file.products()).toMatchObject([
    { op: 'qdq', K: 64, N: 32, bits: 4, block: 32, zeroPoints: 'none' },
    { op: 'qdq', K: 64, N: 32, bits: 8, block: 64, zeroPoints: 'integer' },
  ])
})

test('tables and experts', () => {
  const file = new File()
  const table = [file.stored('t', bytes([10, 32])), new Value('ids', 'int64'), file.stored('s', floats([10, 2]))]
  file.node('GatherBlockQuantized', table, { bits: 4, block_size: 32 }, 'com.microsoft')
  const experts = [x, x, file.stored('w1', bytes([2, 8, 32])), file.stored('s1', floats([2, 8, 4]))]
  file.node('QMoE', experts, { expert_weight_bits: 8, block_size: 16 }, 'com.microsoft')
  expect(file.products()).toMatchObject([
    { op: 'GatherBlockQuantized', K: 64, N: 10, bits: 4, block: 32, zeroPoints: 'none' },
    { op: 'QMoE', bits: 8, block: 16 },
  ])
})

test('nodes of a body count', () => {
  const inner = new File()
  inner.node(
    'MatMulNBits',
    [x, inner.stored('b', bytes([1])), inner.stored('s', floats([1]))],
    { K: 64, N: 1 },
    'com.microsoft',
  )
  const file = new File()
  const branch: Attribute = { type: 'graph', value: inner.graph }
  file.graph.nodes.push(new Node('If', [], [], new Map([['then_branch', branch]])))
  expect(file.products()).toHaveLength(1)
})
