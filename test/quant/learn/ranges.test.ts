/** @file Fixed ranges of activations in a block's life: observed starts, learning, folding, and rounding without learning. */

import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { elementCount } from '../../../src/graph/tensor.ts'
import { rangeSteps } from '../../../src/kernels/static-range.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import { isTransformed } from '../../../src/quant/learn/equivalence.ts'
import { learnBlock } from '../../../src/quant/learn/learn-block.ts'
import { blockParameters, calibrates, learns, observedValues } from '../../../src/quant/learn/learnables.ts'
import { namedParameters } from '../../../src/quant/learn/learned.ts'
import type { Observer } from '../../../src/quant/learn/observer.ts'
import { staticSites } from '../../../src/quant/learn/ranges.ts'
import { runBlock } from '../../../src/quant/learn/run-block.ts'
import { startBlock } from '../../../src/quant/learn/start-block.ts'
import type { ActivationSite } from '../../../src/quant/plan/activation-sites.ts'
import { affineSites } from '../../../src/quant/plan/affine-sites.ts'
import { blockPlanner } from '../../../src/quant/plan/block-planner.ts'
import type { Method } from '../../../src/quant/terms/options.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { methodOf } from '../../helpers/method.ts'
import { noStart } from '../../helpers/no-start.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'

const folder = tempDir()
const analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 8)
const [block] = analysis.blocks
const shape = staticShape(block!.input)
const SAMPLES = 2

const METHOD = methodOf({
  scheme: parseScheme('w8a8', { staticActivations: true }),
  range: 'minmax',
  epochs: 4,
  learningRate: 5e-2,
  schedule: 'constant',
  session: {},
})

const planOf = (method: Method) => blockPlanner(method, analysis)(block!)

let stores = 0
/** A store of the hidden states, with random samples where `filled`. */
function open(filled: boolean): ActivationStore {
  const store = new ActivationStore(join(folder, String(stores++)), SAMPLES, shape)
  for (let i = 0; filled && i < SAMPLES; i++) store.write(i, noise(elementCount(shape), i + 1))
  return store
}

/** Start of a block, with the channel ranges of its float activations. */
async function startOf(method: Method) {
  const plan = planOf(method)
  const [from, to] = [open(true), open(false)]
  const weights = readWeights(block!)
  const ranges = new ChannelRanges(observedValues(plan, method))
  await runBlock(plan, floatVersion(weights), { from, to, observers: ranges.observers }, {})
  return { plan, ...(await startBlock(plan, { method, frozen: new Set(), ranges, weights }, from)) }
}

async function learned(changes: Partial<Method>) {
  const method = { ...METHOD, ...changes }
  const states = { float: open(true), quantized: open(true), nextFloat: open(false), nextQuantized: open(false) }
  return learnBlock(planOf(method), { method, blocks: 1, states })
}

describe('the start', () => {
  test('of a rounded block holds what its sites see, and nothing else', async () => {
    const { plan, rounded } = await startOf(METHOD)
    const sites = staticSites(plan)
    expect(sites.length).toBe(7)
    expect(rounded!.vector.parameters.map(({ shape }) => shape)).toEqual(Array(14).fill([]))
    // Block 0 of the fixture is read unquantized up to its first site: its norm sees the hidden states themselves.
    const { value } = sites[0]!
    const seen: number[] = []
    const all: Observer = {
      shape: staticShape(value),
      over: 'each',
      emit: (_, sample) => sample.value(value),
      take: numbers => void seen.push(...numbers),
    }
    await runBlock(plan, floatVersion(readWeights(block!)), { from: open(true), observers: [all] }, {})
    expect(seen.length).toBe(SAMPLES * elementCount(staticShape(value)))
    const [lo, hi] = rounded!.parameters
    expect(lo).toBeCloseTo(Math.min(...seen), 5)
    expect(hi).toBeCloseTo(Math.max(...seen), 5)
  })

  test('of learning is observed behind the transformations it starts with', async () => {
    const { vector, rounded } = await startOf(METHOD)
    const initial = vector.initial()
    const bounds = rounded!.vector.parameters.map(({ name }) => [
      rounded!.vector.view(rounded!.parameters, name)[0]!,
      vector.view(initial, name)[0]!,
    ])
    expect(bounds.some(([plain, transformed]) => Math.abs(plain! - transformed!) > 0.1 * Math.abs(plain!))).toBe(true)
    const { vector: same, rounded: plain } = await startOf({ ...METHOD, let: false, lwc: false })
    expect(same.initial()).toEqual(plain!.parameters)
  })

  test('is observed behind the matrices of the sites', async () => {
    const method = { ...METHOD, let: 'affine' } as const
    const { plan, start } = await startOf(method)
    const sites = affineSites(plan).filter(site => start.matrices!.has(site))
    expect(sites.length).toBeGreaterThan(0)
    // A few numbers far from the others are what a matrix is chosen for: it spreads them, and the range is narrower.
    const { start: scaled } = await startOf({ ...METHOD, let: true })
    const widthOf = ({ siteRanges }: typeof start, { value }: ActivationSite) => {
      const [, { lo, hi }] = [...siteRanges!].find(([site]) => site.value === value)!
      return hi - lo
    }
    for (const site of affineSites(plan)) {
      const share = widthOf(start, site) / widthOf(scaled, site)
      if (sites.includes(site)) expect(share, site.value.name).toBeLessThan(0.9)
      else expect(share, site.value.name).toBeCloseTo(1, 1)
    }
  })

  test('takes the choice of range', async () => {
    const [all, most] = [await startOf(METHOD), await startOf({ ...METHOD, range: 'mse' })].map(
      ({ rounded }) => rounded!,
    )
    const widths = (parameters: Float32Array) => [...parameters].reduce((sum, x) => sum + Math.abs(x), 0)
    expect(widths(most!.parameters)).toBeLessThan(widths(all!.parameters))
  })

  test('learning rates are a share of each range, or none', async () => {
    const { vector } = await startOf(METHOD)
    const of = ({ parameters }: typeof vector) =>
      parameters
        .slice(-14)
        .map(({ learningRate }) => (typeof learningRate === 'number' ? learningRate : learningRate()))
    const initial = [...vector.initial().subarray(vector.size - 14)]
    of(vector).forEach((rate, i) => {
      const [lo, hi] = [initial[i - (i % 2)]!, initial[i - (i % 2) + 1]!]
      expect(rate / (hi - lo)).toBeCloseTo(METHOD.learningRate * 0.1, 6)
    })
    const { vector: kept } = await startOf({ ...METHOD, learnRanges: false })
    expect(of(kept).every(rate => rate === 0)).toBe(true)
  })
})

describe('a block', () => {
  test('that learns them is better than a rounded one, and has the constants of the learned bounds', async () => {
    const {
      plan,
      learned: kept,
      activations,
      report,
    } = await learned({ scheme: parseScheme('w3a8', { staticActivations: true }) })
    expect(report.kept).toBe('learned')
    expect(activations.map(({ site }) => plan.activationSites[site])).toEqual(staticSites(plan))
    const bounds = kept!.parameters.subarray(kept!.vector.size - 14)
    activations.forEach(({ constants }, i) => {
      const [scale, zeroPoint] = [constants.scale![0], constants.zeroPoint![0]]
      expect({ scale, zeroPoint }).toEqual(rangeSteps({ lo: bounds[2 * i]!, hi: bounds[2 * i + 1]! }, { bits: 8 }))
    })
    const start = (
      await startOf({ ...METHOD, scheme: parseScheme('w3a8', { staticActivations: true }) })
    ).vector.initial()
    expect(start.subarray(start.length - 14)).not.toEqual(bounds)
    expect(isTransformed(plan, namedParameters(kept!))).toBe(true)
  })

  test('that learns nothing has them as observed', async () => {
    const { plan, learned: kept, activations, report } = await learned({ lwc: false, let: false, learnRanges: false })
    expect(report.kept).toBeUndefined()
    expect(report.roundedLoss).toBeGreaterThan(0)
    expect(kept!.parameters).toEqual((await startOf({ ...METHOD, lwc: false, let: false })).rounded!.parameters)
    expect(activations.length).toBe(7)
    expect(isTransformed(plan, namedParameters(kept!))).toBe(false)
  })

  test('whose learning does not help has them as observed', async () => {
    const { learned: kept, activations, report } = await learned({ learningRate: 50, letLearningRate: 50 })
    expect(report.kept).toBe('rounded')
    expect(kept!.vector.size).toBe(14)
    expect(activations.length).toBe(7)
  })
})

test('runs that learn nothing need calibration for them', () => {
  const nothing = { ...METHOD, lwc: false, let: false, learnRanges: false }
  expect(learns(nothing)).toBe(false)
  expect(calibrates(nothing)).toBe(true)
  expect(calibrates({ ...nothing, params: 'p.safetensors' })).toBe(false)
  const dynamic = { ...nothing, scheme: parseScheme('w8a8') }
  expect(calibrates(dynamic)).toBe(false)
  expect(blockParameters(planOf(dynamic), noStart(dynamic)).size).toBe(0)
})
