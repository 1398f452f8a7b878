/** @file Classes of ops: each class does what it says, as onnxruntime computes it; the questions asked of the table. */

import { describe, expect, it } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { classOf, ELEMENTWISE, isElementwise, keepsElements, rowsFor } from '../../src/graph/ops.ts'
import { floatTensor, int64Tensor, readNumbers, tensorOf } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'

const SHAPE = [2, 3]

/** Output of a node on rows that differ in one element only, at place 4. */
async function outputs(kind: string, inputs: number): Promise<[number[], number[]]> {
  const dot = kind.lastIndexOf('.')
  const opType = kind.slice(dot + 1)
  const domain = kind.slice(0, Math.max(dot, 0))
  const run = async (changed: number): Promise<number[]> => {
    const g = new Builder()
    const operands = Array.from({ length: inputs }, (_, i) => {
      const numbers = [1, 2, 3, 4, i === 0 ? changed : 2, 6].map(x => x / 8)
      const wholes = numbers.map(x => Math.round(x * 8))
      if (/^(And|Or|Xor|Not)$/.test(opType))
        return g.initializer(
          'x',
          tensorOf(
            'bool',
            SHAPE,
            Uint8Array.from(wholes, x => Number(x > 3)),
          ),
        )
      if (/^(Bit|Mod$)/.test(opType)) return g.initializer('x', tensorOf('uint8', SHAPE, Uint8Array.from(wholes)))
      if (opType === 'Where' && i === 0)
        return g.initializer(
          'x',
          tensorOf(
            'bool',
            SHAPE,
            Uint8Array.from(wholes, x => Number(x > 3)),
          ),
        )
      return g.initializer('x', floatTensor(SHAPE, kind === 'IsNaN' ? numbers.map(x => (x > 0.5 ? NaN : x)) : numbers))
    })
    const attributes: Record<string, string | number> =
      opType === 'BitShift' ? { direction: 'LEFT' } : opType === 'Cast' ? { to: 7 } : {}
    const [y] = g.ops(opType, operands, 1, attributes, { domain })
    g.output(y!, 'y')
    return readNumbers((await runGraph(g.graph)).y!)
  }
  return [await run(1), await run(5)]
}

const kindsOf = (opClass: (typeof ELEMENTWISE)[number]): string[] => Object.keys(rowsFor([opClass], undefined))

/** Ops of newer opsets than our programs': nothing runs them here. */
const NEWER = new Set(['Swish'])

describe('an elementwise op', () => {
  const arity = { identity: 1, cast: 1, unary: 1, predicate: 1, choice: 3 } as Readonly<Record<string, number>>
  it.each(
    ELEMENTWISE.flatMap(opClass =>
      kindsOf(opClass)
        .filter(kind => !NEWER.has(kind))
        .map(kind => [kind, arity[opClass] ?? 2] as const),
    ),
  )('%s has an element for each place, and place 4 alone depends on place 4', async (kind, inputs) => {
    const [before, after] = await outputs(kind, kind === 'CastLike' ? 2 : inputs)
    expect(before).toHaveLength(6)
    expect(after.filter((_, i) => i !== 4)).toEqual(before.filter((_, i) => i !== 4))
  })
})

describe('a view', () => {
  it.each(Object.keys(rowsFor(['view'], undefined)))('%s keeps the order of the elements', async kind => {
    const g = new Builder()
    const x = g.initializer('x', floatTensor([1, 2, 3], [1, 2, 3, 4, 5, 6]))
    const second = { Reshape: [3, 2], Unsqueeze: [0], Squeeze: [0] }[kind]
    const [y] = g.ops(kind, second ? [x, g.initializer('i', int64Tensor([second.length], second))] : [x], 1)
    g.output(y!, 'y')
    expect(readNumbers((await runGraph(g.graph)).y!)).toEqual([1, 2, 3, 4, 5, 6])
  })
})

describe('questions', () => {
  it('about the elements of an op', () => {
    expect(['Add', 'Where', 'Identity', 'com.microsoft.Gelu'].map(isElementwise)).toEqual([true, true, true, true])
    expect(['Expand', 'Reshape', 'MatMul', 'Softmax', 'CumSum', 'Gelu2'].some(isElementwise)).toBe(false)
    expect(['Identity', 'Cast', 'Flatten'].map(keepsElements)).toEqual([true, true, true])
    expect(['Transpose', 'Expand', 'Slice', 'Neg', 'toString'].some(keepsElements)).toBe(false)
  })

  it('about a class', () => {
    expect([classOf('Tile'), classOf('ReduceL2'), classOf('Loop'), classOf('constructor')]).toEqual([
      'repetition',
      'reduction',
      undefined,
      undefined,
    ])
  })
})
