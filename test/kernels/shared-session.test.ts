/** @file Programs on several devices: the same results as on one, and one error when a device fails or is lost. */

import { expect, test } from 'vitest'
import { Builder } from '../../src/graph/builder.ts'
import { type Attribute, type Dim, Graph, Node, Value } from '../../src/graph/ir.ts'
import { readElements, tensorOf } from '../../src/graph/tensor.ts'
import type { Device } from '../../src/kernels/device.ts'
import { workersFor } from '../../src/kernels/device-worker.ts'
import type { Tensors } from '../../src/kernels/session.ts'
import { type Combinations, compileShared, partsOf } from '../../src/kernels/shared-session.ts'
import '../helpers/typescript-children.ts'

const WIDTH = 3

/** x [samples, 3], weight [3], before [3] -> y = x * weight, most and least, total = before + sum of x, mean of x over the samples. */
function program(): Graph {
  const g = new Builder(new Graph('shared'))
  const value = (name: string, shape: readonly Dim[] = [WIDTH]) => new Value(name, 'float32', shape)
  g.input('samples', 'int64', [])
  const x = value('x', ['samples', WIDTH])
  g.graph.inputs.push(x)
  const weight = g.input('weight', 'float32', [WIDTH])
  const before = g.input('before', 'float32', [WIDTH])
  // Nodes as they are: the builder wants sizes, and the number of samples is none.
  const node = (op: string, inputs: readonly Value[], output: Value): Value => {
    const keepdims: [string, Attribute][] = op.startsWith('Reduce') ? [['keepdims', { type: 'int', value: 0 }]] : []
    g.graph.nodes.push(new Node(op, [...inputs], [output], new Map(keepdims), '', output.name))
    return output
  }
  const axis = g.ints([0])
  const sum = node('ReduceSum', [x, axis], value('sum'))
  g.graph.outputs.push(
    node('Mul', [x, weight], value('y', ['samples', WIDTH])),
    node('ReduceMax', [x, axis], value('most')),
    node('ReduceMin', [x, axis], value('least')),
    node('Add', [before, sum], value('total')),
    node('ReduceMean', [x, axis], value('mean')),
  )
  return g.graph
}

const COMBINATIONS: Combinations = {
  most: { over: 'max' },
  least: { over: 'min' },
  total: { over: 'sum', state: 'before' },
  mean: { over: 'mean' },
}

/** Whole numbers, whose sums are exact. */
const floats = (length: number) => Float32Array.from({ length }, (_, i) => ((i * 37) % 23) - 11)

const feeds = (samples: number): Tensors => ({
  samples: tensorOf('int64', [], BigInt64Array.of(BigInt(samples))),
  x: tensorOf('float32', [samples, WIDTH], floats(samples * WIDTH)),
  before: tensorOf('float32', [WIDTH], Float32Array.of(100, 200, 300)),
})

const FIXED: Tensors = { weight: tensorOf('float32', [WIDTH], Float32Array.of(2, 3, 5)) }

const open = (devices: readonly Device[]) =>
  compileShared(program(), { device: 'cpu', devices, threads: 1 }, FIXED, COMBINATIONS)

test('a run is divided and put together again, for any number of samples', async () => {
  const [one, three] = [await open(['cpu']), await open(['cpu', 'cpu', 'cpu'])]
  for (const samples of [7, 3, 2, 1]) {
    const [expected, got] = [await one.run(feeds(samples)), await three.run(feeds(samples))]
    expect(Object.keys(got)).toEqual(Object.keys(expected))
    for (const name of ['y', 'most', 'least', 'total']) {
      expect(got[name]!.dims, name).toEqual(expected[name]!.dims)
      expect(readElements(got[name]!), name).toEqual(readElements(expected[name]!))
    }
    const [mean, exact] = [got, expected].map(outputs => readElements(outputs['mean']!) as Float32Array)
    exact!.forEach((value, i) => expect(mean![i]).toBeCloseTo(value, 5))
  }
  await Promise.all([one.release(), three.release()])
})

test('parts differ by one at most, and are never empty', () => {
  expect(partsOf(7, 3)).toEqual([3, 2, 2])
  expect(partsOf(32, 2)).toEqual([16, 16])
  expect(partsOf(2, 3)).toEqual([1, 1])
})

test('an output that nothing combines is a mistake of ours', async () => {
  const shared = await compileShared(program(), { device: 'cpu', devices: ['cpu', 'cpu'] }, FIXED, {})
  await expect(shared.run(feeds(4))).rejects.toMatchObject({ code: 'E_INTERNAL' })
  await shared.release()
})

test('a device that cannot be used is the error of the program', async () => {
  // No machine has this device.
  await expect(open(['cpu', 'cuda:99'])).rejects.toMatchObject({ name: 'QuantError', message: /cuda/i })
})

test('a process that dies gives one error with the name of its device; the next program gets a new one', async () => {
  const lost = await open(['cpu', 'cpu'])
  process.kill(workersFor(['cpu'])[0]!.pid!, 'SIGKILL')
  await expect(lost.run(feeds(6))).rejects.toMatchObject({
    code: 'E_ENGINE',
    message: 'the process of the device cpu ended (SIGKILL)',
  })
  await lost.release()
  const next = await open(['cpu', 'cpu'])
  const { total } = await next.run(feeds(6))
  expect(readElements(total!)).toHaveLength(WIDTH)
  await next.release()
})
