/** @file Learning that goes wrong ends well: no NaN, the best parameters kept, the same bytes however the steps are cut. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import type { Tensors } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { embed } from '../../../src/quant/learn/embed.ts'
import { type BlockPlan } from '../../../src/quant/plan/block-plan.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { blockParameters, observedValues } from '../../../src/quant/learn/learnables.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { runBlock } from '../../../src/quant/learn/run-block.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import type { Method } from '../../../src/quant/terms/options.ts'
import { type Trained, trainBlock, type TrainSettings } from '../../../src/quant/learn/train-block.ts'
import { methodOf } from '../../helpers/method.ts'

const MODEL = resolve(import.meta.dirname, '../../../fixtures/tiny-llama')
const [SAMPLES, TOKENS] = [4, 32]

const METHOD: Method = methodOf({
  scheme: parseScheme('w4a4'),
  lwc: true,
  epochs: 3,
  learningRate: 1e-2,
  schedule: 'constant',
  session: {},
})

let folder: string
let plan: BlockPlan
let weights: Tensors
let ranges: ChannelRanges
let streams: { x: ActivationStore; y: ActivationStore }

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'omniquant-train-'))
  const analysis = await analyze(MODEL, TOKENS)
  const [block] = analysis.blocks
  plan = planBlock(block!, { scheme: METHOD.scheme, let: true, values: analysis.values })
  const open = (name: string) => new ActivationStore(join(folder, name), SAMPLES, staticShape(block!.input))
  streams = { x: open('x'), y: open('y') }
  const tokens = BigInt64Array.from({ length: SAMPLES * TOKENS }, (_, i) => BigInt((i * 37 + 5) % 300))
  await embed(analysis, { tokens, samples: SAMPLES, seqLen: TOKENS, notes: [] }, streams.x)
  weights = readWeights(block!)
  ranges = new ChannelRanges(observedValues(plan, METHOD))
  await runBlock(plan, floatVersion(weights), { from: streams.x, to: streams.y, observers: ranges.observers }, {})
})
afterAll(() => {
  streams.x.close()
  streams.y.close()
  rmSync(folder, { recursive: true })
})

const SETTINGS: TrainSettings = { epochs: 3, samples: SAMPLES, schedule: 'constant', optimizer: 'adamw', session: {} }

function train(rates: { clip: number; equivalence: number }, settings: Partial<TrainSettings> = {}): Promise<Trained> {
  const method = { ...METHOD, learningRate: rates.clip, letLearningRate: rates.equivalence }
  const vector = blockParameters(plan, { method, frozen: new Set(), ranges, weights })
  return trainBlock(plan, vector, streams, weights, { ...SETTINGS, ...settings })
}

test('learning lowers the loss', async () => {
  const { losses, rollbacks } = await train({ clip: 1e-2, equivalence: 5e-3 }, { epochs: 6 })
  const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length
  expect(mean(losses.subarray(-SAMPLES))).toBeLessThan(mean(losses.subarray(0, SAMPLES)))
  expect(rollbacks).toEqual([])
})

test('no epochs: the parameters are what learning would start from', async () => {
  const { parameters, losses } = await train({ clip: 1e-2, equivalence: 5e-3 }, { epochs: 0 })
  const { parameters: untouched } = await train({ clip: 0, equivalence: 0 }, { epochs: 1 })
  expect(parameters).toEqual(untouched)
  expect(losses.length).toBe(0)
})

test.each([
  ['a learning rate that breaks everything at once', { clip: 1e3, equivalence: 1e30 }],
  ['one that breaks it by the transformations alone', { clip: 1e-2, equivalence: 1e38 }],
])('%s: rolled back, finite, repeatable', async (_name, rates) => {
  const first = await train(rates)
  expect(first.rollbacks.length).toBeGreaterThan(0)
  expect(first.parameters.every(Number.isFinite)).toBe(true)
  for (const step of first.rollbacks) expect(step).toBeLessThanOrEqual(SAMPLES * 3)
  expect((await train(rates)).parameters).toEqual(first.parameters)
})

test('the parameters kept are those of the best epoch, not of the last', async () => {
  // One good epoch, then steps far too large: the schedule is constant, so only the length differs.
  const rates = { clip: 0.3, equivalence: 0.5 }
  const long = await train(rates, { epochs: 8 })
  const epochs = Array.from({ length: 8 }, (_, i) => long.losses.subarray(i * SAMPLES, (i + 1) * SAMPLES))
  const means = epochs.map(losses => losses.reduce((sum, value) => sum + value, 0) / SAMPLES)
  const best = means.indexOf(Math.min(...means))
  const untilThen = await train(rates, { epochs: best + 1 })
  expect(long.parameters).toEqual(untilThen.parameters)
})
