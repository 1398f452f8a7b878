/** @file The list of learnables: each leaves a block as it is at the start, and training, folding and replaying use what is in the list. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { optimizerOf } from '../../../src/autodiff/optimizers.ts'
import { Builder } from '../../../src/graph/builder.ts'
import { Graph } from '../../../src/graph/ir.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { elementCount, readElements, tensorOf } from '../../../src/graph/tensor.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import { emitBlock } from '../../../src/quant/learn/emit-block.ts'
import { foldPrograms } from '../../../src/quant/learn/fold-programs.ts'
import type { BlockConstants, Learnable, LearningStart } from '../../../src/quant/learn/learnable.ts'
import { blockParameters, LEARNABLES, learns, observedValues } from '../../../src/quant/learn/learnables.ts'
import { ParameterVector } from '../../../src/quant/learn/parameters.ts'
import { runBlock } from '../../../src/quant/learn/run-block.ts'
import { loadParameters, saveParameters } from '../../../src/quant/learn/replay.ts'
import { weightInputs } from '../../../src/quant/learn/ports.ts'
import { trainingProgram } from '../../../src/quant/learn/training-program.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import type { Method } from '../../../src/quant/terms/options.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { tempDir } from '../../helpers/temp-dir.ts'
import { noise } from '../../kernels/weights.ts'
import { methodOf } from '../../helpers/method.ts'

const tempFolder = tempDir()

const METHOD: Method = methodOf({
  scheme: parseScheme('w4a4'),
  lwc: true,
  let: 'affine',
  learnRanges: true,
  learnGains: true,
  epochs: 1,
  learningRate: 1e-2,
  schedule: 'constant',
  session: {},
})

const { blocks, values } = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 8)
const plan = planBlock(blocks[1]!, { scheme: METHOD.scheme, let: 'affine', gains: true, values })
const { block } = plan
const shape = staticShape(block.input)
const x = tensorOf('float32', shape, Float32Array.from(noise(elementCount(shape), 3)))
const weights = readWeights(block)

/** Start of learning after one sample. */
async function startOf(method: Method): Promise<LearningStart> {
  const ranges = new ChannelRanges(observedValues(plan, method))
  const from = new ActivationStore(join(tempFolder, 'x.f32'), 1, shape)
  from.writeTensor(0, x)
  await runBlock(plan, floatVersion(weights), { from, to: from, observers: ranges.observers }, {})
  from.remove()
  return { method, frozen: new Set(), ranges, weights, matrices: new Set(plan.activationSites) }
}

const original = (g: Builder): BlockConstants => ({
  weights: weightInputs(g, block),
  constants: new Map(),
  biases: new Map(),
  clipRatios: new Map(),
  roundingOffsets: new Map(),
  ranges: new Map(),
  siteConstants: new Map(),
})

test('names are unique, of learnables and of parameters', async () => {
  const start = await startOf(METHOD)
  const names = LEARNABLES.flatMap(learnable => learnable.parameters(plan, start)).map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  expect(LEARNABLES.map(({ name }) => name)).toEqual([
    'lwc',
    'let',
    'gains',
    'affine',
    'ranges',
    'token ranges',
    'rounding',
  ])
  const all = await startOf({ ...METHOD, rounding: 'learned' })
  expect(blockParameters(plan, all).parameters.map(({ name }) => name)).toEqual(names)
})

/** Those that change constants; ranges of activations are in ranges.test.ts. */
const CHANGING = LEARNABLES.filter(({ name }) => name !== 'ranges')

test.each(CHANGING)('$name: its initial parameters leave the float block as it is', async learnable => {
  const parameters = learnable.parameters(plan, await startOf(METHOD))
  expect(parameters.length).toBeGreaterThan(0)
  const vector = new ParameterVector(parameters)
  const g = new Builder(new Graph('applied'))
  const input = g.input('x', 'float32', shape)
  const before = original(g)
  const after = learnable.apply(g, plan, before, vector.split(g, g.input('parameters', 'float32', [vector.size])))
  g.output(emitBlock(g, block, input, before.weights), 'before')
  const sites = { activationSites: plan.activationSites, quantized: false, siteConstants: after.siteConstants }
  g.output(emitBlock(g, block, input, after.weights, { changes: after, ...sites }), 'after')
  const shares = [...after.siteConstants.values()].map(({ maxRatio, minRatio }) => ({ max: maxRatio, min: minRatio }))
  const all = [...after.clipRatios.values(), ...shares].flatMap(({ max, min }) => [max, min])
  const ratios = all.filter(ratio => ratio !== undefined)
  ratios.forEach((ratio, i) => g.output(g.op('Identity', [ratio]), `ratio${i}`))
  const feeds = { x, ...weights, parameters: tensorOf('float32', [vector.size], vector.initial()) }
  const outputs = await runGraph(g.graph, feeds)
  const floats = (name: string) => readElements(outputs[name]!) as Float32Array
  const [a, b] = [floats('before'), floats('after')]
  const most = Math.max(...a.map(Math.abs))
  expect(Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))).toBeLessThan(1e-5 * most)
  ratios.forEach((_, i) => {
    for (const ratio of floats(`ratio${i}`)) {
      expect(ratio).toBeGreaterThan(0.98)
      expect(ratio).toBeLessThanOrEqual(1)
    }
  })
  expect(after.weights === before.weights).toBe(learnable.name !== 'let' && learnable.name !== 'affine')
  expect(after.roundingOffsets.size).toBe(learnable.name === 'rounding' ? plan.quantizers.size : 0)
  const clipped: Record<string, number> = { lwc: plan.quantizers.size, 'token ranges': plan.activationSites.length }
  expect(ratios.length).toBe(2 * (clipped[learnable.name] ?? 0))
})

test.each(LEARNABLES)('$name: without its parameters nothing changes', learnable => {
  const g = new Builder(new Graph('nothing'))
  const before = original(g)
  expect(learnable.apply(g, plan, before, new Map())).toEqual(before)
})

test.each(LEARNABLES)('$name: frozen linears start from the whole range and from scale 1', async learnable => {
  const start = { ...(await startOf(METHOD)), frozen: new Set(block.linears) }
  const clips = ['lwc', 'token ranges'].includes(learnable.name)
  for (const { name, initial, learningRate } of learnable.parameters(plan, start)) {
    // No linear reads queries, keys and values.
    if (name.includes(':token_') && plan.activationSites[parseInt(name)]!.user) continue
    expect(learningRate).toBe(0)
    expect(initial, name).toBe(clips ? 20 : name.endsWith(':scale') ? 1 : 0)
  }
})

test('what a run does not learn has no parameters', async () => {
  const neither = { ...METHOD, lwc: false, let: false, learnRanges: false, learnGains: false } as const
  expect(blockParameters(plan, await startOf(neither)).size).toBe(0)
  expect(observedValues(plan, neither)).toEqual([])
  expect(observedValues(plan, METHOD).length).toBeGreaterThan(0)
  expect(learns(neither)).toBe(false)
  expect(learns(METHOD)).toBe(true)
  expect(learns({ ...METHOD, params: 'p.safetensors' })).toBe(false)
})

test('saved parameters fit as long as a later learnable is not asked for', () => {
  const path = join(tempFolder, 'p.safetensors')
  saveParameters(path, METHOD, [{ parameters: [] }])
  const later = (enabled: boolean): Learnable => ({
    name: 'later',
    enabled: () => enabled,
    parameters: () => [],
    apply: (_g, _plan, constants) => constants,
  })
  const list = LEARNABLES as Learnable[]
  for (const enabled of [false, true]) {
    list.push(later(enabled))
    try {
      const load = () => loadParameters(path, METHOD, 1)
      if (enabled) expect(load).toThrow("its later is false, this run's is true")
      else expect(load().block(plan)).toBeUndefined()
    } finally {
      list.pop()
    }
  }
})

test('a row in the list is learned, folded and stored', async () => {
  const programs: string[] = []
  const [linear] = block.linears
  const bias: Learnable = {
    name: 'bias',
    enabled: () => true,
    parameters: () => [{ name: 'bias', shape: [linear!.outFeatures], initial: 0, learningRate: 1e-2 }],
    apply: (g, _plan, constants, parameters) => {
      programs.push(g.graph.name)
      return { ...constants, biases: new Map([[linear!, parameters.get('bias')!]]) }
    },
  }
  const list = LEARNABLES as Learnable[]
  list.push(bias)
  try {
    const vector = blockParameters(plan, await startOf(METHOD))
    expect(vector.parameters.at(-1)!.name).toBe('bias')
    trainingProgram(plan, vector, optimizerOf('adamw', vector.segments))
    expect(foldPrograms(plan, vector).changed.biases).toEqual([linear])
    expect(programs).toEqual(['step', 'fold'])
    expect(learns({ ...METHOD, lwc: false, let: false, learnRanges: false, learnGains: false })).toBe(true)
  } finally {
    list.pop()
  }
})
