/** @file Patterns over producers, and the reasons they give when they do not fit. */

import { describe, expect, it } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { any, capture, constant, match, oneOf, op } from '../../src/graph/match.ts'
import { readNumbers, floatTensor } from '../../src/graph/tensor.ts'

const g = new Builder()
const x = g.input('x', 'float32', [2, 2])
const w = g.initializer('w', floatTensor([2, 2], [1, 2, 3, 4]))
const b = g.initializer('b', floatTensor([2], [1, 2]))
const product = g.matMul(x, w)
const biasLast = g.add(product, b)
const biasFirst = g.add(b, product)
const linear = op('Add', op('MatMul', capture('x'), capture('w', constant())), capture('b', constant()))

const names = (value: Value, pattern = linear) => {
  const result = match(value, pattern)
  if (!result.ok) throw new Error(result.reason)
  return Object.fromEntries([...result.bindings].map(([key, { name }]) => [key, name]))
}

describe('match', () => {
  it.each([
    ['last', biasLast],
    ['first', biasFirst],
  ])('finds x w + b with the bias %s', (_, value) => {
    expect(names(value)).toEqual({ x: 'x', w: 'w', b: 'b' })
  })

  it('does not commute operands of anything else', () => {
    const difference = g.sub(product, b)
    expect(match(difference, op('Sub', op('MatMul'), constant())).ok).toBe(true)
    expect(match(difference, op('Sub', constant(), op('MatMul'))).ok).toBe(false)
  })

  it('takes the same name for the same value only', () => {
    const square = op('Mul', capture('s'), capture('s'))
    expect(names(g.mul(x, x), square)).toEqual({ s: 'x' })
    expect(match(g.mul(x, product), square)).toMatchObject({
      ok: false,
      reason: expect.stringContaining('already taken for s'),
    })
  })

  it('goes back on a choice that leads nowhere', () => {
    // x * sigmoid(x): the first operand tried as x is the sigmoid, which only the second shows to be wrong.
    const silu = op('Mul', capture('x'), op('Sigmoid', capture('x')))
    const sigmoid = g.op('Sigmoid', [x])
    expect(names(g.mul(sigmoid, x), silu)).toEqual({ x: 'x' })
    // The first alternative fits here, but not with what follows.
    const either = op('Sub', oneOf(capture('a', op('MatMul')), op('MatMul', capture('a'))), capture('a'))
    expect(names(g.sub(product, x), either)).toEqual({ a: 'x' })
  })

  it('takes alternatives, several kinds, predicates, and ignores further inputs', () => {
    const two = constant(({ tensor }) => readNumbers(tensor!).join() === '1,2')
    expect(match(biasLast, op('Add', any, two)).ok).toBe(true)
    expect(match(g.scale(x, 3), op(['Div', 'Mul'], capture('x'))).ok).toBe(true)
    expect(match(g.reshape(x, [4]), op('Reshape', any)).ok).toBe(true)
    expect(match(x, oneOf(op('Add'), any)).ok).toBe(true)
  })

  it('names domains', () => {
    const gelu = g.op('QuickGelu', [x], {}, { domain: 'com.microsoft' })
    expect(match(gelu, op('com.microsoft.QuickGelu', any)).ok).toBe(true)
    expect(match(gelu, op('QuickGelu', any)).ok).toBe(false)
  })
})

describe('a refusal', () => {
  it('says where the attempt that came furthest ended', () => {
    const wrong = g.add(g.matMul(x, g.op('Neg', [w])), b)
    const result = match(wrong, linear)
    expect(result).toMatchObject({ ok: false, reason: expect.stringMatching(/"neg.*" is not constant/) })
    if (!result.ok) expect(result.node?.opType).toBe('Neg')
  })

  it.each([
    ['an input', x, /"x" is an input, expected Add/],
    ['a constant', w, /"w" is a constant, expected Add/],
    ['another op', product, /made by MatMul, expected Add/],
    ['a constant that is not wanted', g.add(product, x), /"x" is not constant/],
  ])('tells what it met: %s', (_, value, reason) => {
    expect(match(value, linear)).toMatchObject({ ok: false, reason: expect.stringMatching(reason) })
  })

  it('knows absent inputs and unwanted constants', () => {
    const clip = g.op('Clip', [x, undefined, g.scalar(1)])
    expect(match(clip, op('Clip', any, any))).toMatchObject({ ok: false, reason: 'an input is absent' })
    expect(
      match(
        biasLast,
        op(
          'Add',
          op('MatMul'),
          constant(() => false),
        ),
      ),
    ).toMatchObject({
      ok: false,
      reason: expect.stringContaining('"b" is not the one expected'),
    })
  })
})
