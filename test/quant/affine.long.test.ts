/** @file `--let affine` from end to end: blocks come nearer to the float ones, what is trained is what ships, and it can be replayed. */

import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import type { Graph } from '../../src/graph/ir.ts'
import { modelBytes } from '../helpers/model-bytes.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { evaluateModel } from '../../src/quant/evaluate.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { affineSites } from '../../src/quant/plan/affine-sites.ts'
import { planBlock } from '../../src/quant/plan/plan-block.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { ExportOptions, QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { BlockReport } from '../../src/quant/terms/report.ts'
import type { Rounding } from '../../src/quant/terms/roundings.ts'
import { parseScheme, type SchemeOverrides } from '../../src/quant/terms/scheme.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { writeMergedModel } from '../helpers/merged-model.ts'
import { PLAIN } from '../helpers/method.ts'
import { shipped } from '../helpers/shipped.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { toyTokens } from '../helpers/toy-decoder.ts'

const MODEL = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const OPTIONS: Omit<QuantizeOptions, 'output'> = {
  ...PLAIN,
  ...{ model: MODEL, calib: join(MODEL, 'calib.txt'), scheme: 'w4a4', samples: 8, seqLen: 32, epochs: 4 },
  ...{ learningRate: 5e-2, schedule: 'cosine', seed: 0, threads: 1 },
}

/** Products in a file that multiply activations before they are quantized. */
const mixedIn = ({ nodes }: Graph) => nodes.filter(({ outputs }) => /_mixed(_\d+)?$/.test(outputs[0]!.name))

/** Names of the matrices of a block. */
const matricesOf = ({ mappings }: BlockReport) => mappings.filter(name => name.startsWith('matrix -> '))

test('blocks are nearer to the float ones than with scales alone, and so is the model', async () => {
  const made = async (transformations: true | 'affine') => {
    const output = join(testFolder(), 'q.onnx')
    const { blocks } = await quantizeModel({ ...OPTIONS, let: transformations, output })
    const { perplexity } = await evaluateModel({
      model: output,
      text: join(MODEL, 'calib.txt'),
      seqLen: 32,
      windows: 40,
    })
    return {
      losses: blocks.map(({ learnedLoss }) => learnedLoss!),
      blocks,
      perplexity,
      products: mixedIn(loadModel(output).graph).length,
    }
  }
  const [scales, affine] = [await made(true), await made('affine')]
  for (const [i, loss] of affine.losses.entries()) expect(loss, `block ${i}`).toBeLessThan(0.9 * scales.losses[i]!)
  expect(affine.perplexity).toBeLessThan(scales.perplexity)
  expect(scales.products).toBe(0)
  expect(affine.products).toBe(affine.blocks.flatMap(matricesOf).length)
  for (const block of affine.blocks) expect(matricesOf(block)).toContain('matrix -> down_proj')
})

const STATIC: SchemeOverrides = { staticActivations: true }

test.each<[string, SchemeOverrides, Partial<ExportOptions>, Rounding]>([
  ['w4a4', {}, {}, 'nearest'],
  ['w4a8g32', { symmetric: true, symmetricActivations: true }, {}, 'learned'],
  ['w4a8', STATIC, { format: 'qdq' }, 'nearest'],
])(
  '%s %o %o, rounding %s: every block of the file gives the trained output',
  async (text, overrides, options, rounding) => {
    const scheme = parseScheme(text, overrides)
    const method = { scheme, rounding, let: 'affine', learnRanges: true, epochs: 2, learningRate: 5e-2 } as const
    const sizes = { tokens: 8, vocabulary: 300 }
    const { finished, errors } = await shipped(MODEL, testFolder(), method, options, sizes)
    expect(finished.map(({ report }) => report.kept)).toContain('learned')
    expect(finished.flatMap(({ report }) => matricesOf(report)).length).toBeGreaterThan(0)
    for (const [i, error] of errors.entries()) expect(error, `block ${i}`).toBeLessThan(1e-4)
  },
)

test('saved parameters give the same bytes without learning', async () => {
  const params = join(testFolder(), 'learned.safetensors')
  const [first, second] = [join(testFolder(), 'a.onnx'), join(testFolder(), 'a.onnx')]
  const { blocks } = await quantizeModel({ ...OPTIONS, let: 'affine', output: first, saveParams: params })
  expect(blocks.map(({ kept }) => kept)).toContain('learned')
  await quantizeModel({ ...OPTIONS, let: 'affine', output: second, params })
  expect(modelBytes(second).equals(modelBytes(first))).toBe(true)
  const without = quantizeModel({ ...OPTIONS, output: join(testFolder(), 'b.onnx'), params })
  await expect(without).rejects.toThrow("its affine is true, this run's is false")
})

test('a run that was broken off goes on to the same bytes', async () => {
  const [whole, resumed] = [join(testFolder(), 'a.onnx'), join(testFolder(), 'a.onnx')]
  await quantizeModel({ ...OPTIONS, let: 'affine', output: whole })
  const stop = new AbortController()
  const broken = quantizeModel(
    { ...OPTIONS, let: 'affine', output: resumed },
    {
      signal: stop.signal,
      onEvent: event => void (event.type === 'block' && event.index === 1 && stop.abort()),
    },
  )
  await expect(broken).rejects.toThrow()
  const { blocks } = await quantizeModel({ ...OPTIONS, let: 'affine', output: resumed })
  expect(blocks.length).toBeGreaterThan(1)
  expect(readFileSync(resumed).equals(readFileSync(whole))).toBe(true)
})

test('a merged decoder has the matrices in both branches, which say the same', async () => {
  const work = testFolder()
  const [model, output] = [await writeMergedModel(work), join(work, 'q.onnx')]
  const calib = join(work, 'calib.jsonl')
  writeFileSync(calib, toyTokens(4, 33))
  const { blocks } = await quantizeModel({ ...OPTIONS, model, calib, output, let: 'affine', samples: 4, epochs: 2 })
  expect(blocks.map(({ kept }) => kept)).toContain('learned')
  const [choice] = loadModel(output).graph.nodes.filter(({ opType }) => opType === 'If')
  const counts = choice!.subgraphs().map(body => mixedIn(body).length)
  const learned = blocks.filter(({ kept }) => kept === 'learned').flatMap(matricesOf).length
  expect(learned).toBeGreaterThan(0)
  expect(counts).toEqual([learned, learned])
  const [without, withCache] = [await logitsOf(output, { flag: 0 }), await logitsOf(output, { flag: 1 })]
  expect(relativeError(without, withCache)).toBeLessThan(1e-5)
  expect(relativeError(await logitsOf(model, { flag: 0 }), without)).toBeLessThan(0.5)
})

test('linears that stay float read the value as it is', async () => {
  const { blocks, values } = await analyze(MODEL, 8)
  const scheme = parseScheme('w4a4')
  const plan = planBlock(blocks[0]!, {
    ...{ scheme, let: 'affine', values },
    weightSchemeOf: ({ name }) => (name.endsWith('v_proj') ? undefined : scheme.weights),
  })
  const [site] = affineSites(plan)
  const float = plan.block.linears.find(({ name }) => name.endsWith('v_proj'))!
  expect(site!.readers.length).toBe(2)
  expect(site!.readers.some(({ node }) => node === float.node)).toBe(false)
})
