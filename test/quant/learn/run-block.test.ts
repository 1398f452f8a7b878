/** @file Forward runs of a block over many samples: the same numbers however they are cut, stored, and given their weights. */

import { join, resolve } from 'node:path'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { ActivationStore, type StateType } from '../../../src/calibration/activation-store.ts'
import { Builder } from '../../../src/graph/builder.ts'
import { Graph } from '../../../src/graph/ir.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { elementCount, readElements, tensorOf } from '../../../src/graph/tensor.ts'
import { roundToFloat16 } from '../../../src/kernels/float16.ts'
import { runGraph, type SessionOptions } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import { emitBlock } from '../../../src/quant/learn/emit-block.ts'
import { forwardProgram } from '../../../src/quant/learn/forward-program.ts'
import type { Combination, Observer } from '../../../src/quant/learn/observer.ts'
import { weightInputs } from '../../../src/quant/learn/ports.ts'
import { type BlockRun, runBlock } from '../../../src/quant/learn/run-block.ts'
import { RunLength } from '../../../src/quant/learn/run-length.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { noise } from '../../kernels/weights.ts'
import { tempDir } from '../../helpers/temp-dir.ts'

const folder = tempDir()
const { blocks, values } = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 8)
const plan = planBlock(blocks[0]!, { scheme: parseScheme('w4a16g32'), let: false, values })
const { block } = plan
const shape = staticShape(block.input)
const weights = readWeights(block)
const SAMPLES = 7
const SIZE = elementCount(shape)

let files = 0
function open(fill?: (i: number) => Float32Array, dtype: StateType = 'float32'): ActivationStore {
  const store = new ActivationStore(join(folder, `${files++}.f32`), SAMPLES, shape, false, dtype)
  for (let i = 0; fill && i < SAMPLES; i++) store.write(i, fill(i))
  return store
}
const random = (i: number) => Float32Array.from(noise(SIZE, i + 1))

/** Lengths of the runs, by turns; those that time allows when empty. */
let cuts: number[] = []
const runs: number[] = []
const { next } = RunLength.prototype
beforeEach(() => {
  cuts = []
  runs.length = 0
  vi.spyOn(RunLength.prototype, 'next').mockImplementation(function (this: RunLength, left) {
    const length = cuts.length === 0 ? next.call(this, left) : Math.min(left, cuts[runs.length % cuts.length]!)
    runs.push(length)
    return length
  })
})

/** The block without a Loop, one sample after the other. */
async function oneByOne(): Promise<Float32Array[]> {
  const g = new Builder(new Graph('plain'))
  const x = g.input('x', 'float32', shape)
  g.output(emitBlock(g, block, x, weightInputs(g, block)), 'y')
  return Promise.all(
    Array.from({ length: SAMPLES }, async (_, i) => {
      const { y } = await runGraph(g.graph, { x: tensorOf('float32', shape, random(i)), ...weights })
      return readElements(y!) as Float32Array
    }),
  )
}

const inner = block.linears.at(-1)!.node.inputs[0]!

/** Observers of the last product's input, and where their results go. */
function observing() {
  const results = new Map<Combination, Float32Array[]>()
  const observers = (['max', 'min', 'sum', 'each'] as const).map((over): Observer => ({
    shape: staticShape(inner),
    over,
    emit: (_, sample) => sample.value(inner),
    take: result => void results.set(over, [...(results.get(over) ?? []), result.slice()]),
  }))
  return { observers, results }
}

const run = (wanted: Omit<BlockRun, 'from'>, session: SessionOptions = {}, from = open(random)) =>
  runBlock(plan, floatVersion(weights), { from, ...wanted }, session)

describe('outputs', () => {
  test.each([[[7]], [[1]], [[3, 2]]])('runs of %j samples give the bytes of a program without Loop', async lengths => {
    cuts = lengths
    const to = open()
    await run({ to })
    expect(runs.reduce((sum, length) => sum + length)).toBe(SAMPLES)
    const expected = await oneByOne()
    for (let i = 0; i < SAMPLES; i++) expect(to.read(i, 1)).toEqual(expected[i])
  })

  test('may replace the inputs', async () => {
    cuts = [2]
    const both = open(random)
    await run({ to: both }, {}, both)
    expect(both.read(SAMPLES - 1, 1)).toEqual((await oneByOne())[SAMPLES - 1])
  })

  test('are checked sample by sample', async () => {
    cuts = [4]
    const expected = await oneByOne()
    const seen: number[] = []
    await run({
      check: (y, sample) => {
        expect(y).toEqual(expected[sample])
        seen.push(sample)
      },
    })
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6])
  })

  test('weights that stay on the device give the same bytes', async () => {
    const [fed, resident] = [open(), open()]
    await run({ to: fed }, { fixedInputs: 'fed' })
    await run({ to: resident }, { fixedInputs: 'resident' })
    expect(resident.read(0, SAMPLES)).toEqual(fed.read(0, SAMPLES))
  })
})

describe('losses', () => {
  test.each([[[1]], [[5]]])('are the mean squared error, in runs of %j', async lengths => {
    cuts = lengths
    const expected = await oneByOne()
    const target = open(random)
    const errors = expected.map((y, i) => {
      const wanted = random(i)
      return y.reduce((sum, value, j) => sum + (value - wanted[j]!) ** 2, 0) / SIZE
    })
    const mean = errors.reduce((a, b) => a + b) / SAMPLES
    expect(Math.abs((await run({ target })) / mean - 1)).toBeLessThan(1e-6)
  })

  test('alone, no outputs are fetched', () => {
    const { outputs } = forwardProgram(plan, { losses: true })
    expect(outputs.map(({ name }) => name)).toEqual(['losses'])
  })
})

describe('observers', () => {
  test('combine the samples, however the runs are cut', async () => {
    const byCut = []
    for (const lengths of [[1], [3, 2], [7]]) {
      cuts = lengths
      runs.length = 0
      const { observers, results } = observing()
      await run({ observers })
      byCut.push(results)
    }
    const [first, ...others] = byCut
    const each = first!.get('each')!
    expect(each.length).toBe(SAMPLES)
    const fold = (f: (a: number, b: number) => number) => each.reduce((a, b) => a.map((value, i) => f(value, b[i]!)))
    expect(first!.get('max')).toEqual([fold(Math.max)])
    expect(first!.get('min')).toEqual([fold(Math.min)])
    expect(first!.get('sum')).toEqual([fold((a, b) => a + b)])
    for (const other of others) {
      for (const over of ['max', 'min', 'sum'] as const) expect(other.get(over)).toEqual(first!.get(over))
      const joined = other.get('each')!.flatMap(chunk => [...chunk])
      expect(joined).toEqual(each.flatMap(chunk => [...chunk]))
    }
  })

  test('a sum over tokens of x x^T', async () => {
    const { inFeatures: K } = block.linears.at(-1)!
    let gram: Float32Array | undefined
    const product: Observer = {
      shape: [K, K],
      over: 'sum',
      emit: (g, sample) => {
        const x = g.reshape(sample.value(inner), [-1, K])
        return g.matMul(g.transpose(x, [1, 0]), x)
      },
      take: sum => void (gram = sum),
    }
    const { observers, results } = observing()
    await run({ observers: [product, ...observers] })
    const tokens = results
      .get('each')!
      .flatMap(chunk => Array.from({ length: chunk.length / K }, (_, t) => chunk.subarray(t * K, (t + 1) * K)))
    for (const [i, j] of [
      [0, 0],
      [3, 5],
      [K - 1, 2],
    ] as const) {
      const expected = tokens.reduce((sum, x) => sum + x[i]! * x[j]!, 0)
      expect(Math.abs(gram![i * K + j]! - expected)).toBeLessThan(1e-5 * Math.max(1, Math.abs(expected)))
    }
  })

  test('channel ranges are those of all samples', async () => {
    cuts = [3]
    const ranges = new ChannelRanges([inner])
    const { observers, results } = observing()
    await run({ observers: [...ranges.observers, ...observers] })
    const { max, min } = ranges.of(inner)
    const all = results.get('each')!.flatMap(chunk => [...chunk])
    const K = max.length
    const channel = all.filter((_, i) => i % K === 1)
    expect([max[1], min[1]]).toEqual([Math.max(...channel), Math.min(...channel)])
  })
})

describe('float16 states', () => {
  test('are read and written as the block runs in float32', async () => {
    const from = open(random, 'float16')
    const to = open(undefined, 'float16')
    await run({ to }, {}, from)
    const wide = open()
    await run(
      { to: wide },
      {},
      open(i => random(i).map(roundToFloat16)),
    )
    expect(to.read(0, SAMPLES)).toEqual(wide.read(0, SAMPLES).map(roundToFloat16))
  })

  test('losses are of the stored numbers', async () => {
    const [from, target] = [open(random, 'float16'), open(i => random(i + 20), 'float16')]
    const loss = await run({ target }, {}, from)
    const outputs = open()
    await run(
      { to: outputs },
      {},
      open(i => random(i).map(roundToFloat16)),
    )
    const y = outputs.read(0, SAMPLES).map(roundToFloat16)
    const wanted = target.read(0, SAMPLES)
    const expected = y.reduce((sum, value, i) => sum + (value - wanted[i]!) ** 2 / y.length, 0)
    expect(Math.abs(loss / expected - 1)).toBeLessThan(1e-6)
  })
})

test('the program: a Loop over samples, with what was asked for and nothing else', () => {
  const { observers } = observing()
  const { inputs, outputs, nodes } = forwardProgram(plan, {
    outputs: true,
    losses: true,
    stateType: 'float16',
    observers,
  })
  const named = (list: typeof inputs) => list.map(({ name, dtype, shape }) => `${name} ${dtype} [${shape!.join(', ')}]`)
  const K = staticShape(inner).join(', ')
  expect(named(inputs).filter(text => !text.startsWith('w'))).toEqual([
    'samples int64 []',
    `x float16 [samples, ${shape.join(', ')}]`,
    `target float16 [samples, ${shape.join(', ')}]`,
    `before0 float32 [${K}]`,
    `before1 float32 [${K}]`,
    `before2 float32 [${K}]`,
  ])
  expect(named(outputs)).toEqual([
    ...[0, 1, 2].map(j => `observed${j} float32 [${K}]`),
    `y float16 [samples, ${shape.join(', ')}]`,
    'losses float32 [samples]',
    `observed3 float32 [samples, ${K}]`,
  ])
  expect(nodes.map(({ opType }) => opType)).toEqual(['Loop'])
  const body = nodes[0]!.subgraphs()[0]!.nodes.map(({ opType }) => opType)
  expect(body.slice(0, 2)).toEqual(['Gather', 'Cast'])
  expect(body.filter(op => op === 'MatMul').length).toBe(block.nodes.filter(({ opType }) => opType === 'MatMul').length)
  expect(body.slice(block.nodes.length + 2)).toEqual([
    ...[
      'Identity',
      'Max',
      'Min',
      'Add',
      'Cast',
      'Cast',
      'Gather',
      'Cast',
      'Sub',
      'Mul',
      'ReduceMean',
      'ReduceMean',
      'Identity',
    ],
  ])
})

describe('the length of runs', () => {
  const lengths = (length: RunLength, milliseconds: number, count: number) =>
    Array.from({ length: count }, () => {
      const samples = length.next(1000)
      length.took(samples, milliseconds * samples)
      return samples
    })

  test('begins with one sample and is bounded by time, and by bytes', () => {
    expect(lengths(new RunLength('cpu', 1), 10, 3)).toEqual([1, 50, 50])
    expect(lengths(new RunLength('cpu', 1), 2000, 2)).toEqual([1, 1])
    expect(lengths(new RunLength(undefined, 16 * 2 ** 20), 10, 2)).toEqual([1, 4])
    expect(lengths(new RunLength('cpu', 2 ** 40), 10, 2)).toEqual([1, 1])
    expect(new RunLength('cpu', 1).next(0)).toBe(0)
  })

  test.each([
    ['cuda:0', 31],
    ['webgpu', 4],
  ] as const)('is longer on %s', (device, most) => {
    expect(lengths(new RunLength(device, 1), 10, 2)).toEqual([1, 300])
    expect(lengths(new RunLength(device, 64e6), 10, 2)).toEqual([1, most])
  })
})
