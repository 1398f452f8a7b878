/** @file Figures of a block for the report: errors of linears, curves of losses, spreads; and what a resumed run has of them. */

import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { readRecord, writeRecord } from '../../../src/files/record.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { elementCount, readElements } from '../../../src/graph/tensor.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import { type StoredBlock, storedBlock } from '../../../src/quant/learn/finished-block.ts'
import { foldBlock } from '../../../src/quant/learn/fold-block.ts'
import { inputMoments } from '../../../src/quant/learn/input-moments.ts'
import { learnBlock } from '../../../src/quant/learn/learn-block.ts'
import { observedValues } from '../../../src/quant/learn/learnables.ts'
import { linearErrors } from '../../../src/quant/learn/linear-errors.ts'
import { lossCurve } from '../../../src/quant/learn/loss-curve.ts'
import { weightInput } from '../../../src/quant/learn/ports.ts'
import { runBlock } from '../../../src/quant/learn/run-block.ts'
import { spreadOf } from '../../../src/quant/learn/spread.ts'
import { startBlock } from '../../../src/quant/learn/start-block.ts'
import { unroundedBlock } from '../../../src/quant/learn/unrounded-block.ts'
import { blockPlanner } from '../../../src/quant/plan/block-planner.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { methodOf } from '../../helpers/method.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'

const folder = tempDir()
const analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 8)
const [block] = analysis.blocks
const shape = staticShape(block!.input)
const SAMPLES = 2

const method = methodOf({
  scheme: parseScheme('w2a16g32'),
  lwc: true,
  let: true,
  epochs: 3,
  learningRate: 2e-2,
  schedule: 'constant',
  session: {},
})

function filled(name: string): ActivationStore {
  const store = new ActivationStore(join(folder, name), SAMPLES, shape)
  for (let i = 0; i < SAMPLES; i++) store.write(i, Float32Array.from(noise(elementCount(shape), i + 1)))
  return store
}

/** sum over outputs of w^T H w, for weights [K, N] and H = sum of x x^T, in float64: |x w|^2. */
function energy(weight: Float32Array, moments: Float32Array, K: number): number {
  const N = weight.length / K
  let sum = 0
  for (let n = 0; n < N; n++)
    for (let i = 0; i < K; i++)
      for (let j = 0; j < K; j++) sum += weight[i * N + n]! * moments[i * K + j]! * weight[j * N + n]!
  return sum
}

test.each(['rounded', 'transformed'] as const)(
  'errors of linears are those of their second moments: %s',
  async kind => {
    const plan = blockPlanner(method, analysis)(block!)
    const weights = readWeights(block!)
    const [x, y] = [filled('x'), new ActivationStore(join(folder, 'y'), SAMPLES, shape)]
    try {
      const ranges = new ChannelRanges(observedValues(plan, method))
      await runBlock(plan, floatVersion(weights), { from: x, to: y, observers: ranges.observers }, {})
      const { vector } = await startBlock(plan, { method, frozen: new Set(), ranges, weights }, x)
      const learned = kind === 'rounded' ? undefined : { vector, parameters: vector.initial() }
      const folded = await foldBlock(plan, weights, learned, {})
      const errors = await linearErrors(plan, weights, learned, folded, x, {})
      const { weightOf } = await unroundedBlock(plan, weights, learned, {})
      const linears = [...plan.quantizers.keys()]
      expect([...errors.keys()].sort()).toEqual([...linears].sort())
      for (const linear of linears) {
        const run = { from: x, of: 'products' } as const
        const [moments] = await inputMoments(plan, folded.version, [[linear]], run, {})
        const { w } = await weightOf(linear)
        const q = readElements(folded.version.feeds[weightInput(block!.linears.indexOf(linear))]!) as Float32Array
        const K = linear.inFeatures
        const expected =
          energy(
            w.map((value, i) => value - q[i]!),
            moments!,
            K,
          ) / energy(w, moments!, K)
        expect(expected).toBeGreaterThan(1e-3)
        expect(errors.get(linear)! / expected).toBeCloseTo(1, 3)
      }
    } finally {
      x.remove()
      y.remove()
    }
  },
)

test('a learned block has all figures, and its record keeps them', async () => {
  const plan = blockPlanner(method, analysis)(block!)
  const states = {
    float: filled('float'),
    quantized: filled('quantized'),
    nextFloat: new ActivationStore(join(folder, 'next-float'), SAMPLES, shape),
    nextQuantized: new ActivationStore(join(folder, 'next-quantized'), SAMPLES, shape),
  }
  try {
    const finished = await learnBlock(plan, { method, blocks: 1, states })
    const { report } = finished
    expect(report.kept).toBe('learned')
    expect(report.losses).toMatchObject({ steps: 3 * SAMPLES, window: SAMPLES })
    expect(report.losses!.means).toHaveLength(2 * SAMPLES + 1)
    expect(report.losses!.means.at(-1)).toBeLessThan(report.losses!.means[0]!)
    expect(report.figures!.map(({ name }) => name)).toEqual(report.linears)
    for (const { bits, group, error, clipping } of report.figures!) {
      expect({ bits, group }).toEqual({ bits: 2, group: 32 })
      expect(error!.rounded).toBeGreaterThan(0)
      expect(error!.learned).toBeGreaterThan(0)
      expect(error!.learned).not.toBe(error!.rounded)
      expect(clipping!.least).toBeGreaterThan(0)
      expect(clipping!.greatest).toBeLessThanOrEqual(1)
      expect(clipping!.median).toBeLessThan(0.9999)
    }
    expect(report.scales!.map(({ mapping }) => mapping)).toEqual(plan.mappings.map(({ name }) => name))
    expect(report.peakMemoryBytes).toBeGreaterThan(1e7)
    const path = join(folder, 'block.record')
    writeRecord(path, storedBlock(finished), false)
    expect((readRecord(path) as StoredBlock).report).toEqual(JSON.parse(JSON.stringify(report)))
  } finally {
    for (const store of Object.values(states)) store.remove()
  }
})

describe('curves of losses', () => {
  test('every window of several epochs has each sample once: how hard samples are does not show', () => {
    // Losses are hardness of the sample times 1, 1/2, 1/4 in the three epochs.
    const hardness = [1, 8, 3, 40]
    const losses = Float32Array.from({ length: 12 }, (_, i) => hardness[i % 4]! / 2 ** Math.floor(i / 4))
    const { steps, window, means } = lossCurve(losses, 4)!
    expect({ steps, window, points: means.length }).toEqual({ steps: 12, window: 4, points: 9 })
    expect([means[0], means[4], means[8]]).toEqual([13, 6.5, 3.25])
    means.slice(1).forEach((mean, i) => expect(mean).toBeLessThan(means[i]!))
  })

  test('many steps become a hundred points, from the first window to the last', () => {
    const { steps, window, means } = lossCurve(
      Float32Array.from({ length: 1000 }, (_, i) => i),
      100,
    )!
    expect({ steps, window, points: means.length }).toEqual({ steps: 1000, window: 100, points: 100 })
    expect(means[0]).toBeCloseTo(49.5, 3)
    expect(means[99]).toBeCloseTo(949.5, 3)
  })

  test('one epoch has shorter windows', () => {
    const { window, means } = lossCurve(Float32Array.of(8, 7, 6, 5, 4, 3, 2, 1), 8)!
    expect(window).toBe(1)
    expect(means).toEqual([8, 7, 6, 5, 4, 3, 2, 1])
  })

  test('losses that are not finite are left out; nothing trained has no curve', () => {
    expect(lossCurve(Float32Array.of(4, NaN, NaN, 2), 4)!.means).toEqual([4, NaN, NaN, 2])
    expect(lossCurve(Float32Array.of(4, NaN, 2, 2), 2)!.means).toEqual([4, 2, 2])
    expect(lossCurve(new Float32Array(0), 4)).toBeUndefined()
  })
})

test('spreads', () => {
  expect(spreadOf(Float32Array.of(5, 1, 3, 2, 4))).toEqual({ least: 1, lower: 2, median: 3, upper: 4, greatest: 5 })
  expect(spreadOf(Float32Array.of(1, 2))).toEqual({ least: 1, lower: 1.25, median: 1.5, upper: 1.75, greatest: 2 })
  expect(spreadOf(new Float32Array(0))).toBeUndefined()
  expect(spreadOf(Float32Array.of(1, NaN))).toBeUndefined()
})
