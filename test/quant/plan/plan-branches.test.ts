/** @file Merged files: nothing is changed in one branch that is not changed in both. */

import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { feedsFor } from '../../../src/decoder/feeds.ts'
import { describeIo } from '../../../src/decoder/model-io.ts'
import { type Graph, type Model, Node, Value } from '../../../src/graph/ir.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { floatTensor, readBytes, readElements } from '../../../src/graph/tensor.ts'
import { openModel } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { planBranches } from '../../../src/quant/plan/plan-branches.ts'
import type { BlockPlan } from '../../../src/quant/plan/block-plan.ts'
import { quantizeModel } from '../../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../../src/quant/terms/options.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { writeMergedModel } from '../../helpers/merged-model.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { PLAIN } from '../../helpers/method.ts'

const TOKENS = 16

const quantize = (model: string, scheme: string, options: Partial<QuantizeOptions> = {}) =>
  quantizeModel({
    ...PLAIN,
    ...{ model, output: join(dirname(model), 'out.onnx'), scheme: parseScheme(scheme), lwc: false, let: false },
    ...{ samples: 1, seqLen: TOKENS, epochs: 1, seed: 0, learningRate: 1e-2, schedule: 'constant' as const },
    ...{ accuracyLevel: 0 as const },
    ...options,
  })

/** Logits of both branches for a prompt. */
async function bothBranches(path: string): Promise<[Float32Array, Float32Array]> {
  const session = await openModel(path)
  try {
    const io = describeIo(session)
    const feeds = feedsFor(
      io,
      BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 37 + 5) % 300)),
      1,
      TOKENS,
    )
    const run = async (flag: number) => {
      const chosen = { ...feeds[io.useCacheBranch!]!, data: Uint8Array.of(flag) }
      const outputs = await session.run({ ...feeds, [io.useCacheBranch!]: chosen }, [io.logits.name])
      return readElements(outputs[io.logits.name]!) as Float32Array
    }
    return [await run(0), await run(1)]
  } finally {
    await session.release()
  }
}

const worst = (a: Float32Array, b: Float32Array): number => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)))

/** The second branch gets a copy of a constant under its own name, changed or not. */
const ownConstant =
  (name: string, factor: number) =>
  (branch: Graph, { graph }: Model): void => {
    const { tensor } = graph.initializers.find(value => value.name === name)!
    const numbers = new Float32Array(readBytes(tensor!).slice().buffer)
    const copy = floatTensor(
      tensor!.dims,
      numbers.map(x => x * factor),
    )
    const own = new Value('own', 'float32', copy.dims, copy)
    branch.initializers.push(own)
    for (const node of branch.nodes) node.inputs = node.inputs.map(input => (input?.name === name ? own : input))
  }

async function plansOf(change?: (branch: Graph, model: Model) => void): Promise<BlockPlan[]> {
  const { blocks, values, otherBranch } = await analyze(await writeMergedModel(testFolder(), change), TOKENS)
  const options = { scheme: parseScheme('w4a4'), let: true, values }
  return blocks.map(block => planBranches(block, options, otherBranch))
}

const GAIN = 'model.layers.1.input_layernorm.weight'

describe('both branches', () => {
  test.each<[string, Partial<QuantizeOptions>, string]>([
    ['w4a16g32', {}, 'com.microsoft.MatMulNBits'],
    ['w3a8', {}, 'com.microsoft.MatMulIntegerToFloat'],
    ['w4a8', { format: 'portable' }, 'MatMul'],
    ['w4a4', { lwc: true, let: true }, 'com.microsoft.MatMulIntegerToFloat'],
  ])('%s %o: the same %s, with weights that are stored and unpacked once', async (scheme, options, kind) => {
    const model = await writeMergedModel(testFolder())
    const report = await quantize(model, scheme, options)
    expect(report.notes.filter(note => /branch|transformations|not quantized/.test(note))).toEqual([])
    const [a, b] = await bothBranches(report.output)
    expect(worst(a, b)).toBeLessThan(1e-5)
    expect(worst(a, (await bothBranches(model))[0])).toBeGreaterThan(1e-3)

    const { graph } = loadModel(report.output)
    const branches = graph.nodes.flatMap(node => node.subgraphs())
    const products = branches.map(({ nodes }) => nodes.filter(node => node.kind === kind))
    expect(products.map(nodes => nodes.length)).toEqual(kind === 'MatMul' ? [29, 29] : [21, 21])
    // Only activations' own values differ between the branches: every weight of one is the weight of the other.
    const weights = products.map(nodes => new Set(nodes.map(node => node.inputs[1]!)))
    const common = [...weights[0]!].filter(value => weights[1]!.has(value))
    expect(common.length).toBeGreaterThanOrEqual(21)
    expect(branches.flatMap(body => body.initializers)).toEqual([])
  })

  test('what they share is found block by block', async () => {
    const plans = await plansOf()
    expect(plans.map(({ mappings }) => mappings.length)).toEqual([5, 5, 5])
    for (const { otherBranch, changedSites, block } of plans) {
      expect(otherBranch!.linears.map(nodes => nodes.map(({ name }) => name))).toEqual(
        block.linears.map(({ origin }) => [origin.name]),
      )
      expect(otherBranch!.sites.map(({ node, input }) => [node.name, input])).toEqual(
        changedSites.map(({ node, input }) => [node.name, input]),
      )
      expect(otherBranch!.sites.some(({ node }, i) => node === changedSites[i]!.node)).toBe(false)
      expect(otherBranch!.values).toHaveLength(3)
    }
  })
})

describe('branches that differ', () => {
  test('a gain of its own with equal numbers is changed like the shared one', async () => {
    const plans = await plansOf(ownConstant(GAIN, 1))
    expect(plans.map(({ mappings }) => mappings.length)).toEqual([5, 5, 5])
  })

  test('other numbers: that block is quantized without transformations', async () => {
    const plans = await plansOf(ownConstant(GAIN, 2))
    expect(plans.map(({ mappings }) => mappings.length)).toEqual([5, 0, 5])
    expect(plans[1]!.skippedMappings.map(({ reason }) => reason)).toContain('the other branch computes it differently')
    expect(plans[1]!.notes).toEqual(['no transformations: the other branch computes it differently'])
    expect(plans[1]!.otherBranch!.values).toHaveLength(3)
  })

  test('a weight of its own stays float there, and nothing else of the block is changed', async () => {
    const weight = loadModel(await writeMergedModel(testFolder()))
      .graph.nodes[0]!.subgraphs()[0]!
      .nodes.find(({ name }) => name.includes('layers.2') && name.includes('up_proj'))!.inputs[1]!.name
    const model = await writeMergedModel(testFolder(), ownConstant(weight, 1))
    const report = await quantize(model, 'w8a8', { lwc: true, let: true })
    expect(report.notes.filter(note => /branch/.test(note))).toEqual([
      'kept as float in one branch of the file: layers.2.mlp.up_proj',
      'no transformations: the other branch has weights of its own for layers.2.mlp.up_proj',
      'queries, keys and values are not quantized: the other branch has weights of its own for layers.2.mlp.up_proj',
    ])
    const kinds = loadModel(report.output)
      .graph.nodes.flatMap(node => node.subgraphs())
      .map(({ nodes }) => nodes)
    const count = (nodes: readonly Node[]) => nodes.filter(({ opType }) => opType === 'MatMulIntegerToFloat').length
    expect(kinds.map(count)).toEqual([20, 21])
    const [a, b] = await bothBranches(report.output)
    expect(worst(a, b)).toBeLessThan(1)
  })

  test('a branch that cannot be followed gets the weights, and nothing else', async () => {
    const plans = await plansOf(branch => {
      const last = branch.nodes.findLast(node => node.kind === 'MatMul')!
      last.inputs[0] = new Value('hidden', 'float32')
      branch.nodes.splice(
        branch.nodes.indexOf(last),
        0,
        new Node('Mystery', [branch.nodes.at(-2)!.outputs[0]], [last.inputs[0]], new Map(), 'com.example', 'odd'),
      )
    })
    expect(plans.map(({ mappings }) => mappings.length)).toEqual([0, 0, 0])
    expect(plans[0]!.notes.join()).toMatch(/no transformations: the other branch cannot be traced .*odd/)
    expect(plans[0]!.otherBranch!.linears.map(nodes => nodes.length)).toEqual([1, 1, 1, 1, 1, 1, 1])
    expect(plans[0]!.otherBranch!.values).toEqual([])
  })
})
