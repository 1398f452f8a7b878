/** @file Transformations leave the float blocks of real exporters' files as they are. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { readElements } from '../../src/graph/tensor.ts'
import { openModel } from '../../src/kernels/session.ts'
import { transpose2d } from '../../src/kernels/transpose.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { replaceConstants } from '../../src/quant/export/replace-constants.ts'
import { affineSites } from '../../src/quant/plan/affine-sites.ts'
import { planBlock } from '../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { equivalenceError, randomlyTransformed } from '../helpers/equivalence.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'

const TOKENS = 16

describe('float blocks compute the same when transformed, to 1e-9', needsShared, () => {
  test.each<[string, number]>([
    ['models/wiki-llama/optimum-past', 5],
    ['models/wiki-llama/genai-fp32', 5],
    ['models/wiki-llama-mha/optimum-nopast', 5],
    ['models/wiki-opt/optimum-past', 5],
    ['zoo/optimum-qwen3', 5],
    ['zoo/optimum-gpt2', 4],
    ['zoo/genai-gptoss', 4], // two norms, values, queries and keys
    ['zoo/optimum-qwen3-moe', 8], // two norms, values, queries and keys, up and down of 4 experts
  ])('%s: %i transformations', async (path, count) => {
    const { blocks, values } = await analyze(join(sharedDir!, path), 8)
    const plan = planBlock(blocks[0]!, { scheme: parseScheme('w4a4'), let: true, values })
    expect(plan.mappings.map(({ name }) => name)).toHaveLength(count)
    expect(await equivalenceError(plan)).toBeLessThan(1e-9)
  })

  test.each<[string, number]>([
    ['models/wiki-llama/genai-fp32', 4],
    ['models/wiki-opt/optimum-past', 4],
    ['zoo/optimum-qwen3', 4],
    ['zoo/optimum-gpt2', 4],
    ['zoo/optimum-phi3', 4],
    ['zoo/optimum-qwen3-moe', 10], // two of attention, two of each expert
  ])('%s: with matrices for %i inputs of linears', async (path, count) => {
    const { blocks, values } = await analyze(join(sharedDir!, path), 8)
    const plan = planBlock(blocks[0]!, { scheme: parseScheme('w4a4'), let: 'affine', values })
    expect(affineSites(plan)).toHaveLength(count)
    expect(await equivalenceError(plan)).toBeLessThan(1e-9)
  })
})

describe('float models say the same with all their blocks transformed, to 1e-4 of the range', needsShared, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-equivalence-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** The user's graph with transformed weights, gains and biases, in float. */
  async function transformed(path: string): Promise<string> {
    const { model, blocks, values } = await analyze(path, TOKENS)
    for (const block of blocks) {
      const plan = planBlock(block, { scheme: parseScheme('w4a4'), let: true, values })
      expect(plan.mappings.length).toBeGreaterThanOrEqual(4)
      const constants = await randomlyTransformed(plan)
      replaceConstants(
        model,
        plan.changedSites.map(({ node, input }, j) => ({ node, input, data: constants.sites[j]! })),
      )
      replaceConstants(
        model,
        block.linears.map(({ origin, transposed, inFeatures, outFeatures }, i) => {
          const weight = constants.weights[i]!
          return { node: origin, input: 1, data: transposed ? transpose2d(weight, inFeatures, outFeatures) : weight }
        }),
      )
      expect(plan.addedBiases).toEqual([])
    }
    const output = join(folder, `${path.replaceAll('/', '-')}.onnx`)
    await saveModel(model, output)
    return output
  }

  test.each([
    'models/wiki-llama-mha/optimum-nopast',
    'models/wiki-llama/optimum-past',
    'models/wiki-opt/optimum-past',
    'zoo/optimum-qwen3',
    'zoo/optimum-gpt2',
    'zoo/optimum-qwen3-moe',
  ])('%s', async name => {
    const path = join(sharedDir!, name, 'model.onnx')
    const logits: Float32Array[] = []
    for (const file of [path, await transformed(path)]) {
      const session = await openModel(file)
      const io = describeIo(session, join(sharedDir!, name))
      const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))
      const outputs = await session.run(feedsFor(io, tokens, 1, TOKENS), [io.logits.name])
      logits.push(readElements(outputs[io.logits.name]!) as Float32Array)
      await session.release()
    }
    const [before, after] = logits as [Float32Array, Float32Array]
    const range = Math.max(...before) - Math.min(...before)
    expect(Math.max(...before.map((value, i) => Math.abs(value - after[i]!))) / range).toBeLessThan(1e-4)
  })
})
