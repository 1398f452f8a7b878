/** @file Gradient programs, as they are read: what a rule emits is part of its contract, as these are the inner loop. */

import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { Builder } from '../../src/graph/builder.ts'
import { Graph, type Value } from '../../src/graph/ir.ts'
import { print } from '../../src/graph/print.ts'
import { staticShape } from '../../src/graph/shape.ts'

describe('programs, as they are read', () => {
  /** Gradient program of y with seed dy, without the forward nodes. */
  function backwardOf(build: (g: Builder) => { y: Value; wrt: Value[] }): string {
    const g = new Builder()
    const { y, wrt } = build(g)
    const dy = g.input('dy', y.dtype!, staticShape(y))
    const forward = g.graph.nodes.length
    const result = gradients(g, new Map([[y, dy]]), wrt)
    for (const value of wrt) g.output(result.get(value)!)
    const backward = new Graph('backward')
    backward.inputs = [dy]
    backward.nodes = g.graph.nodes.slice(forward)
    backward.outputs = g.graph.outputs
    return print(backward)
  }

  test('MatMul with a weight: one product over all tokens, no Transpose', () => {
    const text = backwardOf(g => {
      const x = g.input('x', 'float32', [2, 16, 8])
      const w = g.input('w', 'float32', [8, 4])
      return { y: g.matMul(x, w), wrt: [x, w] }
    })
    expect(text).toMatchInlineSnapshot(`
      "graph backward(dy: float32[2, 16, 4]) {
        reshape: float32[32, 8] = Reshape(x, [32, 8]) {allowzero: 0}
        reshape_1: float32[32, 4] = Reshape(dy, [32, 4]) {allowzero: 0}
        transpose: float32[4, 8] = Transpose(w) {perm: [1,0]}
        matMul_1: float32[32, 8] = MatMul(reshape_1, transpose)
        transpose_1: float32[8, 32] = Transpose(reshape) {perm: [1,0]}
        matMul_2: float32[8, 4] = MatMul(transpose_1, reshape_1)
        reshape_2: float32[2, 16, 8] = Reshape(matMul_1, [2, 16, 8]) {allowzero: 0}
        return reshape_2, matMul_2
      }"
    `)
  })

  test('MatMul with a transposed weight: the gradient has the layout of the weight', () => {
    const text = backwardOf(g => {
      const x = g.input('x', 'float32', [16, 8])
      const w = g.input('w', 'float32', [4, 8])
      return { y: g.matMul(x, g.transpose(w, [1, 0])), wrt: [w] }
    })
    expect(text).toMatchInlineSnapshot(`
      "graph backward(dy: float32[16, 4]) {
        transpose_2: float32[4, 16] = Transpose(dy) {perm: [1,0]}
        matMul_2: float32[4, 8] = MatMul(transpose_2, x)
        return matMul_2
      }"
    `)
  })

  test('MatMul in float64, for which FusedMatMul has no kernel', () => {
    const text = backwardOf(g => {
      const a = g.input('a', 'float64', [2, 3, 4])
      const b = g.input('b', 'float64', [2, 4, 5])
      return { y: g.matMul(a, b), wrt: [a, b] }
    })
    expect(text).toMatchInlineSnapshot(`
      "graph backward(dy: float64[2, 3, 5]) {
        transpose: float64[2, 5, 4] = Transpose(b) {perm: [0,2,1]}
        matMul_1: float64[2, 3, 4] = MatMul(dy, transpose)
        transpose_1: float64[2, 4, 3] = Transpose(a) {perm: [0,2,1]}
        matMul_2: float64[2, 4, 5] = MatMul(transpose_1, dy)
        return matMul_1, matMul_2
      }"
    `)
  })

  test('Softmax', () => {
    const text = backwardOf(g => {
      const x = g.input('x', 'float32', [2, 16, 16])
      return { y: g.op('Softmax', [x]), wrt: [x] }
    })
    expect(text).toMatchInlineSnapshot(`
      "graph backward(dy: float32[2, 16, 16]) {
        mul: float32[2, 16, 16] = Mul(dy, softmax)
        reduceSum: float32[2, 16, 1] = ReduceSum(mul, [2]) {keepdims: 1}
        sub: float32[2, 16, 16] = Sub(dy, reduceSum)
        mul_1: float32[2, 16, 16] = Mul(softmax, sub)
        return mul_1
      }"
    `)
  })

  test('Mul with a broadcast operand, and with one that needs nothing', () => {
    const text = backwardOf(g => {
      const x = g.input('x', 'float32', [2, 16, 8])
      const scale = g.input('scale', 'float32', [8])
      return { y: g.mul(g.scale(x, 3), scale), wrt: [scale] }
    })
    expect(text).toMatchInlineSnapshot(`
      "graph backward(dy: float32[2, 16, 8]) {
        mul_2: float32[2, 16, 8] = Mul(dy, mul)
        reduceSum: float32[8] = ReduceSum(mul_2, [0, 1]) {keepdims: 0}
        return reduceSum
      }"
    `)
  })

  test('the halves of a rotary embedding: joined, not padded and added', () => {
    const text = backwardOf(g => {
      const x = g.input('x', 'float32', [4, 16, 8])
      return { y: g.concat([g.neg(g.slice(x, 2, 4, 8)), g.slice(x, 2, 0, 4)], 2), wrt: [x] }
    })
    expect(text).toMatchInlineSnapshot(`
      "graph backward(dy: float32[4, 16, 8]) {
        split: float32[4, 16, 4], split_1: float32[4, 16, 4] = Split(dy, [4, 4]) {axis: 2}
        neg_1: float32[4, 16, 4] = Neg(split)
        concat_1: float32[4, 16, 8] = Concat(split_1, neg_1) {axis: 2}
        return concat_1
      }"
    `)
  })

  test('pieces are joined in whatever order they were cut', () => {
    const text = backwardOf(g => {
      const x = g.input('x', 'float32', [16, 9])
      const [a, b, c] = [0, 3, 6].map(start => g.slice(x, 1, start, start + 3))
      return { y: g.add(g.mul(b!, b!), g.mul(a!, c!)), wrt: [x] }
    })
    expect(text).toContain(' = Concat(')
    expect(text).not.toContain(' = Pad(')
  })
})
