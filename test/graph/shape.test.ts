/** @file Arithmetic on shapes, as tables. */

import { describe, expect, it } from 'vitest'
import { type Dim, Node, Value } from '../../src/graph/ir.ts'
import {
  broadcastShapes,
  checkShape,
  constantNumbers,
  normalizeAxis,
  requireConstant,
  reshapeTarget,
  sameShape,
  type Shape,
  staticShape,
} from '../../src/graph/shape.ts'
import { int64Tensor } from '../../src/graph/tensor.ts'

const value = (shape: readonly Dim[] | undefined): Value => new Value('v', 'float32', shape)

describe('broadcastShapes', () => {
  // The eight pairs of numpy's rules, as onnxruntime tests them.
  it.each<[Shape, Shape, Shape]>([
    [[], [], []],
    [[2, 3], [], [2, 3]],
    [[2, 3], [3], [2, 3]],
    [
      [2, 3],
      [1, 3],
      [2, 3],
    ],
    [
      [2, 1],
      [1, 3],
      [2, 3],
    ],
    [
      [3, 1, 4],
      [2, 1],
      [3, 2, 4],
    ],
    [[1], [0], [0]],
    [
      [2, 3, 4],
      [1, 1, 1, 1],
      [1, 2, 3, 4],
    ],
  ])('%j with %j gives %j', (a, b, expected) => {
    expect(broadcastShapes(a, b)).toEqual(expected)
    expect(broadcastShapes(b, a)).toEqual(expected)
  })

  it('refuses others', () => {
    expect(() => broadcastShapes([2, 3], [2])).toThrow('[2, 3] with [2]')
  })
})

describe('reshapeTarget', () => {
  it.each<[Shape, number[], boolean, Shape]>([
    [[2, 3, 4], [0, -1], false, [2, 12]],
    [[2, 3], [3, 2], false, [3, 2]],
    [[0, 3], [3, 0], true, [3, 0]],
    [[0, 3], [0, -1], false, [0, 0]],
    [[1, 1], [], false, []],
  ])('of %j to %j (allowzero %s) is %j', (input, target, allowZero, expected) => {
    expect(reshapeTarget(input, target, allowZero)).toEqual(expected)
  })

  it('refuses another number of elements', () => {
    expect(() => reshapeTarget([2, 3], [4, -1], false)).toThrow('cannot reshape [2, 3] to [4, -1]')
  })
})

describe('checkShape', () => {
  it('binds names at first sight and holds them', () => {
    const dims = new Map<string, number>()
    expect(checkShape(dims, value([4, 8]), ['tokens', 'K'])).toEqual([4, 8])
    expect(checkShape(dims, value([8, 2]), ['K', 2])).toEqual([8, 2])
    expect([...dims]).toEqual([
      ['tokens', 4],
      ['K', 8],
    ])
    expect(() => checkShape(dims, value([5, 8]), ['tokens', 'K'])).toThrow('expected tokens = 4 at dimension 0')
    expect(() => checkShape(dims, value([8, 3]), ['K', 2])).toThrow('expected 2 = 2 at dimension 1')
    expect(() => checkShape(dims, value([8]), ['K', 2])).toThrow('"v" is [8], expected [K, 2]')
  })
})

it('static shapes are numbers only', () => {
  expect(staticShape(value([1, 2]))).toEqual([1, 2])
  expect(() => staticShape(value([1, 'n', undefined]))).toThrow('"v" depends on data: [1, n, ?]')
  expect(() => staticShape(value(undefined))).toThrow('[?]')
  expect([sameShape([1, 2], [1, 2]), sameShape([1], [1, 1])]).toEqual([true, false])
})

it('axes count from both ends', () => {
  expect([normalizeAxis(-1, 3), normalizeAxis(0, 3), normalizeAxis(0, 0)]).toEqual([2, 0, 0])
  for (const axis of [3, -4]) expect(() => normalizeAxis(axis, 3)).toThrow(`axis ${axis} does not exist`)
})

it('constants are those in memory', () => {
  const constant = new Value('c', 'int64', [2], int64Tensor([2], [3, 4]))
  const onDisk = new Value('d', 'int64', [2], { ...constant.tensor!, data: { file: '/f', offset: 0, length: 16 } })
  expect([constantNumbers(constant), constantNumbers(onDisk), constantNumbers(undefined)]).toEqual([
    [3, 4],
    undefined,
    undefined,
  ])
  const node = new Node('Reshape', [value([2]), constant, onDisk], [], new Map(), '', 'r')
  expect(requireConstant(node, 1)).toEqual([3, 4])
  expect(() => requireConstant(node, 2)).toThrow('input 2 of Reshape "r" must be constant')
})
