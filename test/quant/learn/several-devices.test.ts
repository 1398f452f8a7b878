/** @file A block on two devices: forward runs give the numbers of one, training gives the mean of two trainings. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import type { SessionOptions } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import { embed } from '../../../src/quant/learn/embed.ts'
import { blockParameters, observedValues } from '../../../src/quant/learn/learnables.ts'
import { runBlock } from '../../../src/quant/learn/run-block.ts'
import { RunLength, SHARED_SAMPLES } from '../../../src/quant/learn/run-length.ts'
import { type Checkpoint, trainBlock, type TrainingState } from '../../../src/quant/learn/train-block.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { methodOf } from '../../helpers/method.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import '../../helpers/typescript-children.ts'

const [SAMPLES, TOKENS] = [5, 16]
/** Samples of the first device: one more than those of the second. */
const FIRST = 3

const ONE: SessionOptions = { device: 'cpu', threads: 1 }
const TWO: SessionOptions = { ...ONE, devices: ['cpu', 'cpu'] }

const folder = tempDir()
const analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), TOKENS)
const block = analysis.blocks[0]!
const method = methodOf({
  scheme: parseScheme('w4a4'),
  lwc: true,
  schedule: 'constant',
  learningRate: 1e-2,
  session: {},
})
const plan = planBlock(block, { scheme: method.scheme, let: true, values: analysis.values })
const weights = readWeights(block)
let files = 0
const open = (samples = SAMPLES) =>
  new ActivationStore(join(folder, `${files++}.f32`), samples, staticShape(block.input))
const x = open()
const tokens = BigInt64Array.from({ length: SAMPLES * TOKENS }, (_, i) => BigInt((i * 37 + 5) % 300))
await embed(analysis, { tokens, samples: SAMPLES, seqLen: TOKENS, notes: [] }, x)

/** Outputs of the float block, its loss against half of the inputs, and the ranges of its channels. */
async function forward(session: SessionOptions) {
  const to = open()
  const observed = observedValues(plan, method)
  const ranges = new ChannelRanges(observed)
  const run = { from: x, to, target: x, observers: ranges.observers }
  const loss = await runBlock(plan, floatVersion(weights), run, session)
  return { to, loss, ranges, numbers: observed.map(value => ranges.of(value)) }
}

const { to: y, ranges, ...expected } = await forward(ONE)
const vector = blockParameters(plan, { method, frozen: new Set(), ranges, weights })

function train(session: SessionOptions, from: { x: ActivationStore; y: ActivationStore }, checkpoint?: Checkpoint) {
  const { samples } = from.x
  const settings = { epochs: 1, samples, schedule: 'constant', optimizer: 'adamw', session, checkpoint } as const
  return trainBlock(plan, vector, from, weights, settings)
}

test('outputs, losses and observations are those of one device, to the last bit', async () => {
  const got = await forward(TWO)
  expect(got.to.read(0, SAMPLES)).toEqual(y.read(0, SAMPLES))
  expect(got.loss).toBe(expected.loss)
  expect(got.numbers).toEqual(expected.numbers)
})

test('parameters and state are means of what each device learns from its part of the samples', async () => {
  const part = (store: ActivationStore, first: number, count: number) => {
    const some = open(count)
    some.write(0, store.read(first, count))
    return some
  }
  const parts = [
    await train(ONE, { x: part(x, 0, FIRST), y: part(y, 0, FIRST) }),
    await train(ONE, { x: part(x, FIRST, SAMPLES - FIRST), y: part(y, FIRST, SAMPLES - FIRST) }),
  ] as const
  const states: TrainingState[] = []
  const both = await train(TWO, { x, y }, { everyMs: 0, load: () => undefined, save: state => states.push(state) })
  expect(both.losses).toEqual(Float32Array.from([...parts[0].losses, ...parts[1].losses]))
  const [a, b] = [FIRST / SAMPLES, 1 - FIRST / SAMPLES]
  const mean = parts[0].parameters.map((value, i) => a * value + b * parts[1].parameters[i]!)
  expect(mean).not.toEqual(vector.initial())
  both.parameters.forEach((value, i) => expect(value).toBeCloseTo(mean[i]!, 6))
  // The devices learn at the same time: the optimizer took as many steps as the one that took the most.
  expect(states.map(({ done, taken }) => [done, taken])).toEqual([[SAMPLES, FIRST]])
  expect((await train(TWO, { x, y })).parameters).toEqual(both.parameters)
})

test('with a falling rate, steps of two devices are larger by the root of two', async () => {
  const one = open(1)
  one.write(0, x.read(0, 1))
  const target = open(1)
  target.write(0, y.read(0, 1))
  // Of a single sample only the first device takes a step, and its first one moves each parameter by the learning rate.
  const moved = async (session: SessionOptions): Promise<number> => {
    const settings = { epochs: 1, samples: 1, schedule: 'cosine', optimizer: 'adamw', session } as const
    const { parameters } = await trainBlock(plan, vector, { x: one, y: target }, weights, settings)
    const initial = vector.initial()
    return parameters.reduce((most, value, i) => Math.max(most, Math.abs(value - initial[i]!)), 0)
  }
  expect((await moved(TWO)) / (await moved(ONE))).toBeCloseTo(Math.SQRT2, 2)
})

test('runs on several devices have a fixed length, which memory limits', () => {
  const lengths = new RunLength('cpu', 1, 2)
  lengths.took(2 * SHARED_SAMPLES, 1e9)
  expect([lengths.next(1000), lengths.next(5)]).toEqual([2 * SHARED_SAMPLES, 5])
  expect(new RunLength('cpu', 2 ** 25, 3).next(1000)).toBe(6)
})
