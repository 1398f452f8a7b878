/** @file Learning, step by step, against values of the reference implementation (../shared/golden/README in ../shared/README.md). */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { gradients } from '../../src/autodiff/backward.ts'
import { meanSquaredError } from '../../src/autodiff/loss.ts'
import { ActivationStore } from '../../src/calibration/activation-store.ts'
import { calibrationSamples, loadTokens } from '../../src/calibration/dataset.ts'
import { Builder } from '../../src/graph/builder.ts'
import { Graph } from '../../src/graph/ir.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { readElements, tensorOf } from '../../src/graph/tensor.ts'
import { runGraph, type Tensors } from '../../src/kernels/session.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import type { Linear } from '../../src/quant/find/linears.ts'
import { embed } from '../../src/quant/learn/embed.ts'
import type { End, Mapping } from '../../src/quant/plan/mappings/mapping.ts'
import type { ParameterVector } from '../../src/quant/learn/parameters.ts'
import { type BlockPlan } from '../../src/quant/plan/block-plan.ts'
import { planBlock } from '../../src/quant/plan/plan-block.ts'
import { emitQuantizedBlock } from '../../src/quant/learn/emit-quantized.ts'
import { weightInput } from '../../src/quant/learn/ports.ts'
import { blockParameters, observedValues } from '../../src/quant/learn/learnables.ts'
import type { Method } from '../../src/quant/terms/options.ts'
import { floatVersion, readWeights } from '../../src/quant/learn/block-version.ts'
import { runBlock } from '../../src/quant/learn/run-block.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { ChannelRanges } from '../../src/quant/learn/channel-ranges.ts'
import { trainBlock } from '../../src/quant/learn/train-block.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { methodOf } from '../helpers/method.ts'

const STEPS = 10
/** Relative tolerance. 1e-3 was asked for; a wrong rule in the gradient of the clamp alone costs 2e-3 by the fifth step. */
const TOLERANCE = 1e-4

const noTokenizer = () => {
  throw new Error('golden tokens need no tokenizer')
}

/** A scale of its own for every element of an end. */
const untied = (end: End): End => ({ ...end, scales: end.scales.map((_, i) => i) })

/**
 * Transformations of the reference: none between up and down, and a scale for every channel between queries and keys. The latter is
 * no equivalence behind rotary embeddings, but the golden losses were made with it.
 */
function referenceMappings(mappings: readonly Mapping[]): Mapping[] {
  return mappings
    .filter(({ kind }) => kind !== 'up-down')
    .map(mapping => {
      if (mapping.kind !== 'query-key') return mapping
      const divided = mapping.divided.map(untied)
      return { ...mapping, divided, multiplied: mapping.multiplied.map(untied), size: divided[0]!.scales.length }
    })
}

/** The reference chooses the first scales from one linear only of those behind a norm. */
function firstLinear(mapping: Mapping): Mapping {
  const chosen = mapping.multiplied.filter(end => end.kind === 'rows' && /q_proj|up_proj|o_proj/.test(end.linear.name))
  return { ...mapping, multiplied: chosen }
}

interface Golden {
  readonly setting: {
    readonly wbits: number
    readonly abits: number
    readonly group: number | null
    readonly let: boolean
  }
  readonly seqLen: number
  readonly samples: number
  readonly lwcLr: number
  readonly letLr: number
  readonly losses: readonly number[]
}

interface Bench {
  readonly plan: BlockPlan
  readonly vector: ParameterVector
  readonly streams: { readonly x: ActivationStore; readonly y: ActivationStore }
  readonly weights: Tensors
}

/** Block 0 of a model with the settings of a golden file, ready to be trained. */
async function withBlock<Result>(
  golden: Golden,
  model: string,
  use: (bench: Bench) => Promise<Result>,
): Promise<Result> {
  const { wbits, abits, group } = golden.setting
  const scheme = parseScheme(`w${wbits}a${abits}`, group === null ? { perChannel: true } : { group })
  const method: Method = methodOf({
    scheme,
    lwc: true,
    let: golden.setting.let,
    epochs: 1,
    learningRate: golden.lwcLr,
    letLearningRate: golden.letLr,
    schedule: 'constant',
    session: {},
  })
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-golden-'))
  const stores: ActivationStore[] = []
  try {
    const analysis = await analyze(join(sharedDir!, 'models', model, 'model.onnx'), golden.seqLen)
    const [block] = analysis.blocks
    const plan = planBlock(block!, {
      ...{ scheme, values: analysis.values, let: golden.setting.let },
      select: referenceMappings,
    })
    // First scales come from the activations of all samples. Losses need only the first few samples.
    const samples = golden.setting.let ? golden.samples : STEPS
    const source = loadTokens(join(sharedDir!, 'golden/calib_ids.npy'), noTokenizer)
    const calibration = { ...calibrationSamples(source, { samples, seqLen: golden.seqLen, seed: 0 }), notes: [] }
    for (const name of ['x', 'y'])
      stores.push(new ActivationStore(join(folder, name), samples, staticShape(block!.input)))
    const [x, y] = stores as [ActivationStore, ActivationStore]
    await embed(analysis, calibration, x)
    const weights = readWeights(block!)
    const ranges = new ChannelRanges(observedValues(plan, method))
    await runBlock(plan, floatVersion(weights), { from: x, to: y, observers: ranges.observers }, {})
    const start = { method, frozen: new Set<Linear>(), ranges, weights }
    const vector = blockParameters({ ...plan, mappings: plan.mappings.map(firstLinear) }, start)
    return await use({ plan, vector, streams: { x, y }, weights })
  } finally {
    for (const store of stores) store.close()
    rmSync(folder, { recursive: true })
  }
}

const readGolden = (file: string) => JSON.parse(readFileSync(join(sharedDir!, 'golden', file), 'utf8')) as Golden

/** Relative differences of the first losses from the golden ones. */
function lossErrors(golden: Golden, model: string): Promise<number[]> {
  return withBlock(golden, model, async ({ plan, vector, streams, weights }) => {
    const settings = { epochs: 1, samples: STEPS, schedule: 'constant', optimizer: 'adamw', session: {} } as const
    const { losses } = await trainBlock(plan, vector, streams, weights, settings)
    expect(losses.length).toBe(STEPS)
    return [...losses].map((loss, i) => loss / golden.losses[i]! - 1)
  })
}

describe('clipping: the first losses of block 0 equal the reference implementation', needsShared, () => {
  test.each([
    ['w3a16_pc.json', 'wiki-llama/optimum-nopast'],
    ['w2a16_g64.json', 'wiki-llama/optimum-nopast'],
    ['w3a16_pc.json', 'wiki-llama/genai-fp32'],
    ['opt_w3a16_pc.json', 'wiki-opt/optimum-past'],
  ])('%s on %s', async (file, model) => {
    const errors = await lossErrors(readGolden(file), model)
    errors.forEach((error, i) => expect(Math.abs(error), `loss of step ${i}`).toBeLessThan(TOLERANCE))
  })
})

/**
 * At 4 bits for weights and activations the path is chaotic. The reference's own arithmetic in float64 leaves its float32 losses by
 * 5e-3 at the third step of w4a4_let and by 1e-2 at the sixth of outlier_w4a4_let (let-gradients.py). So the first loss and all
 * gradients of the first step are compared closely, and later losses only as far as the path can be followed.
 */
describe('transformation and clipping: block 0 learns as the reference implementation does', needsShared, () => {
  const CASES = [
    ['w4a4_let.json', 'wiki-llama-mha'],
    ['outlier_w4a4_let.json', 'wiki-llama-outlier-mha'],
  ] as const

  test.each(CASES)('%s: losses', async (file, model) => {
    const errors = await lossErrors(readGolden(file), `${model}/optimum-nopast`)
    expect(Math.abs(errors[0]!)).toBeLessThan(1e-5)
    expect(Math.max(...errors.map(Math.abs))).toBeLessThan(3e-2)
    expect(Math.abs(errors.reduce((sum, error) => sum + error, 0) / STEPS)).toBeLessThan(1e-2)
  })

  test.each(CASES)('%s: gradients of the first step', async (file, model) => {
    const path = join(import.meta.dirname, 'let-gradients.json')
    const expected = (JSON.parse(readFileSync(path, 'utf8')) as Record<string, Summaries>)[model]!
    const found = await firstGradients(readGolden(file), `${model}/optimum-nopast`)
    expect([...found.keys()].sort()).toEqual(Object.keys(expected).sort())
    for (const [name, { norm, along }] of found) {
      const wanted = expected[name]!
      expect(Math.abs(norm - wanted.norm) / wanted.norm, `norm of ${name}`).toBeLessThan(1e-4)
      expect(Math.abs(along - wanted.along) / wanted.norm, `direction of ${name}`).toBeLessThan(1e-4)
    }
  })
})

type Summaries = Record<string, { readonly norm: number; readonly along: number }>

/** Length of each parameter's gradient, and its product with cos(0), cos(1), ..., as let-gradients.py has them. */
function firstGradients(golden: Golden, model: string): Promise<Map<string, Summaries[string]>> {
  return withBlock(golden, model, async ({ plan, vector, streams, weights }) => {
    const g = new Builder(new Graph('gradient'))
    const shape = staticShape(plan.block.input)
    const [x, y] = [g.input('x', 'float32', shape), g.input('y', 'float32', shape)]
    const parameters = g.input('parameters', 'float32', [vector.size])
    const inputs = new Map(
      plan.block.linears.map((linear, i) => [
        linear,
        g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
      ]),
    )
    const output = emitQuantizedBlock(g, plan, x, inputs, vector.split(g, parameters))
    const { gradient } = meanSquaredError(g, output, y)
    g.output(gradients(g, new Map([[output, gradient]]), [parameters]).get(parameters)!, 'gradient')
    const outputs = await runGraph(g.graph, {
      x: tensorOf('float32', shape, streams.x.read(0, 1)),
      y: tensorOf('float32', shape, streams.y.read(0, 1)),
      parameters: tensorOf('float32', [vector.size], vector.initial()),
      ...weights,
    })
    const all = readElements(outputs.gradient!) as Float32Array
    const norms = plan.mappings.filter(({ kind }) => kind === 'norm')
    const nameOf = (name: string): string => {
      const clip = /(\w+):(max|min)$/.exec(name)
      if (clip) return `${clip[1]}:${clip[2]}`
      const mapping = plan.mappings.find(candidate => name.includes(candidate.name))!
      return mapping.kind === 'norm' ? `norm${norms.indexOf(mapping) + 1}` : mapping.kind
    }
    return new Map(
      vector.parameters.map(({ name }) => {
        const values = vector.view(all, name)
        const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
        return [nameOf(name), { norm, along: values.reduce((sum, value, i) => sum + value * Math.cos(i), 0) }]
      }),
    )
  })
}
