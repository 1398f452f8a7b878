/** @file Merged decoders: quantized in both branches, which go on from each other's caches. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { feedsFor, nextPast } from '../../src/decoder/feeds.ts'
import { describeIo, type ModelIo } from '../../src/decoder/model-io.ts'
import type { Graph } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type Session } from '../../src/kernels/session.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { PLAIN } from '../helpers/method.ts'

const MODEL = join(sharedDir ?? '', 'zoo/optimum-merged/decoder_model_merged.onnx')
const TOKENS = 24
const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))

async function quantized(scheme: string, options: Partial<QuantizeOptions> = {}) {
  return quantizeModel({
    ...{ model: MODEL, output: join(testFolder(), 'merged.onnx'), scheme: parseScheme(scheme), lwc: true },
    ...{ samples: 2, seqLen: TOKENS, epochs: 4, seed: 0, learningRate: 1e-2, schedule: 'cosine' as const },
    ...PLAIN,
    ...options,
  })
}

/** Logits of the last token: from the whole sequence at once, and from one step after the other. */
async function lastLogits(session: Session, io: ModelIo): Promise<{ whole: Float32Array; step: Float32Array }> {
  const fetches = [io.logits.name, ...io.past.map(({ present }) => present!)]
  const last = (logits: Float32Array) => logits.slice(-io.vocabSize!)
  const whole = await session.run(feedsFor(io, tokens, 1, TOKENS), fetches)
  const prompt = await session.run(feedsFor(io, tokens.slice(0, -1), 1, TOKENS - 1), fetches)
  const feeds = feedsFor(io, tokens.slice(-1), 1, 1, nextPast(io, prompt, TOKENS - 1))
  expect(feeds[io.useCacheBranch!]!.data).toEqual(Uint8Array.of(1))
  const step = await session.run(feeds, fetches)
  return { whole: last(readFloats(whole[io.logits.name]!)), step: last(readFloats(step[io.logits.name]!)) }
}

const worst = (a: Float32Array, b: Float32Array): number => {
  const range = Math.max(...b) - Math.min(...b)
  return Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) / range
}

describe('merged decoders', needsShared, () => {
  test.each<[string, string, number, (0 | 4)?]>([
    ['w8a16', 'MatMulNBits', 0.01],
    ['w8a16', 'MatMulNBits', 0.03, 4],
    ['w8a8', 'MatMulIntegerToFloat', 0.03],
    ['w4a4', 'MatMulIntegerToFloat', 0.15],
  ])('%s: both branches have %s and agree with the float file and with each other; level %s', async (...row) => {
    const [scheme, op, tolerance, accuracyLevel = 0] = row
    const report = await quantized(scheme, { accuracyLevel })
    const mappings = scheme === 'w8a16' ? 2 * Number(accuracyLevel === 4) : 5
    expect(report.notes.filter(note => /branch|transformations|not quantized/.test(note))).toEqual([])
    expect(report.blocks.map(({ mappings }) => mappings?.length)).toEqual(Array(2).fill(mappings))
    if (scheme === 'w4a4') expect(report.blocks.map(({ kept }) => kept)).toContain('learned')
    const { graph } = loadModel(report.output)
    const branches = graph.nodes.flatMap(node => node.subgraphs())
    const count = ({ nodes }: Graph, kind: string) => nodes.filter(node => node.kind === kind).length
    expect(branches.map(body => count(body, `com.microsoft.${op}`))).toEqual([14, 14])
    // Weights are stored once, and none of them in a branch.
    expect(branches.map(body => body.initializers.length)).toEqual([0, 0])
    expect(graph.initializers.filter(({ name }) => /_Q\d+(_\d+)?$/.test(name))).toHaveLength(14)

    const [source, result] = [await openModel(MODEL), await openModel(report.output)]
    try {
      expect(result.inputs).toEqual(source.inputs)
      expect(result.outputs).toEqual(source.outputs)
      const io = describeIo(source)
      const [expected, got] = [await lastLogits(source, io), await lastLogits(result, io)]
      expect(worst(expected.step, expected.whole)).toBeLessThan(1e-5)
      expect(worst(got.whole, expected.whole)).toBeLessThan(tolerance)
      expect(worst(got.step, expected.step)).toBeLessThan(tolerance)
      expect(worst(got.step, expected.step)).toBeGreaterThan(0)
      // Float or quantized, transformed or not: the step reads what the prompt left in the cache.
      expect(worst(got.step, got.whole)).toBeLessThan(1e-5)
    } finally {
      await source.release()
      await result.release()
    }
  })
})
