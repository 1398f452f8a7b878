/** @file The program that tries devices: right on the CPU, and its check finds wrong numbers. */

import { expect, test } from 'vitest'
import { floatTensor, readNumbers } from '../../src/graph/tensor.ts'
import { checkProbe, probe, runProbe } from '../../src/kernels/probe.ts'

test('the CPU computes the numbers that are known beforehand', async () => {
  await probe('cpu')
})

test('a number that is off by one, a share that is off by a thousandth and no number at all are refused', async () => {
  const right = await runProbe('cpu')
  for (const [name, change] of [
    ['last', 1],
    ['greatest', -1],
    ['shares', 1e-6],
    ['shares', NaN],
  ] as const) {
    const { dims } = right[name]!
    const numbers = [...readNumbers(right[name]!)]
    numbers[5] = numbers[5]! + change
    expect(() => checkProbe({ ...right, [name]: floatTensor([...dims], numbers) })).toThrow(`wrong numbers: ${name}[5]`)
  }
})

test('a device that leaves its memory as it was is refused', async () => {
  const right = await runProbe('cpu')
  const zeros = Object.entries(right).map(([name, { dims }]) => {
    const shape = [...dims] as number[]
    return [name, floatTensor(shape, new Array<number>(shape.reduce((a, b) => a * b, 1)).fill(0))] as const
  })
  expect(() => checkProbe(Object.fromEntries(zeros))).toThrow('wrong numbers: last[0] is 0')
})
