/** @file lm_head and embeddings of real exporters' files: quantized, tied or not, in float32 and float16. */

import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { feedsFor, nextPast } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import type { Graph, Node } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { sizeBytes } from '../../src/graph/tensor.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel } from '../../src/kernels/session.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { PLAIN } from '../helpers/method.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'

const TOKENS = 24

/** Folder under ../shared -> vocabulary, hidden size, tied or not (config.json's tie_word_embeddings). */
const FILES: Record<string, readonly [number, number, boolean]> = {
  'models/wiki-llama/optimum-past': [2048, 256, false],
  'models/wiki-llama/genai-fp32': [2048, 256, false],
  'models/wiki-llama/genai-fp16': [2048, 256, false],
  'models/wiki-opt/optimum-past': [2048, 192, true],
  'zoo/optimum-llama-tied': [256, 64, true],
  'zoo/genai-llama-tied': [256, 64, true],
  'zoo/dynamo-llama-tied': [256, 64, true],
  'zoo/optimum-gpt2': [256, 64, true],
  'zoo/optimum-opt': [256, 64, true],
  'zoo/optimum-bloom': [256, 64, true],
  'zoo/optimum-gemma2-eager': [256, 64, true],
  'zoo/optimum-llama-fp16': [256, 64, false],
  'zoo/mobius-llama': [256, 64, false],
}

const nodesOf = (graph: Graph): Node[] => graph.nodes.flatMap(node => [node, ...node.subgraphs().flatMap(nodesOf)])
const count = (path: string, opType: string): number =>
  nodesOf(loadModel(path).graph).filter(node => node.opType === opType).length
const weightBytes = (path: string): number =>
  loadModel(path).graph.initializers.reduce((sum, { tensor }) => sum + sizeBytes(tensor!), 0)

async function logits(path: string, folder: string): Promise<Float32Array> {
  const session = await openModel(path)
  try {
    const io = describeIo(session, folder)
    const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))
    const outputs = await session.run(feedsFor(io, tokens, 1, TOKENS), [io.logits.name])
    return readFloats(outputs[io.logits.name]!)
  } finally {
    await session.release()
  }
}

/** Logits of a prompt, and of one more token with its cache: the two branches of a merged file. */
async function branches(path: string, folder: string): Promise<[Float32Array, Float32Array]> {
  const session = await openModel(path)
  try {
    const io = describeIo(session, folder)
    const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))
    const first = await session.run(feedsFor(io, tokens, 1, TOKENS))
    const next = await session.run(feedsFor(io, BigInt64Array.of(5n), 1, 1, nextPast(io, first, TOKENS)))
    return [readFloats(first[io.logits.name]!), readFloats(next[io.logits.name]!)]
  } finally {
    await session.release()
  }
}

describe('lm_head and embeddings of real files', needsShared, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-outer-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** Quantizes only weights outside the blocks. */
  const quantizeOuter = (
    name: string,
    outer: Pick<QuantizeOptions, 'lmHead' | 'embedding'>,
    file = 'model.onnx',
  ): ReturnType<typeof quantizeModel> =>
    quantizeModel({
      model: join(sharedDir!, name, file),
      output: join(folder, `${name}-${outer.lmHead}-${outer.embedding}`),
      scheme: parseScheme('w8a16'),
      ignore: ['*'],
      ...PLAIN,
      ...outer,
      lwc: false,
      let: false,
      ...{ samples: 1, seqLen: TOKENS, epochs: 0, seed: 0, learningRate: 1e-2, schedule: 'constant' },
      accuracyLevel: 0,
    })

  test.each(Object.entries(FILES))('%s is inspected as %s', async (name, [vocabSize, hiddenSize, tied]) => {
    const { outer, skipped, problem } = await inspectModel({ model: join(sharedDir!, name) })
    expect(problem).toBeUndefined()
    expect(outer.map(({ role }) => role)).toEqual(['embedding', 'lm_head'])
    for (const each of outer) expect(each).toMatchObject({ vocabSize, hiddenSize, tied })
    expect(skipped).toEqual([])
  })

  test.each(Object.entries(FILES))('%s: both in 8 bits', async (name, [vocabSize, hiddenSize, tied]) => {
    const report = await quantizeOuter(name, { lmHead: 8, embedding: 8 })
    expect(report.outer.map(({ role }) => role)).toEqual(tied ? ['lm_head+embedding'] : ['lm_head', 'embedding'])
    expect(report.outer[0]).toMatchObject({ bits: 8, group: 32, vocabSize, hiddenSize })
    expect([count(report.output, 'MatMulNBits'), count(report.output, 'GatherBlockQuantized')]).toEqual([1, 1])
    const source = report.model
    const [expected, got] = [
      await logits(source, join(sharedDir!, name)),
      await logits(report.output, join(sharedDir!, name)),
    ]
    const range = Math.max(...expected) - Math.min(...expected)
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]!)))
    expect(worst / range).toBeLessThan(0.02)
    expect(worst).toBeGreaterThan(0)
    // Codes, a scale and a zero point for each group; half of the bytes of a pair that is stored once.
    const float = name.includes('fp16') ? 2 : 4
    const groups = (vocabSize * hiddenSize) / 32
    const copies = tied ? 1 : 2
    const saved = copies * (vocabSize * hiddenSize * (float - 1) - groups * (float + 1))
    expect(Math.abs(weightBytes(source) - weightBytes(report.output) - saved)).toBeLessThan(100)
  })

  test.each<[string, string, 'nbits' | 'portable']>([
    ['zoo/optimum-llama-tied', 'model.onnx', 'nbits'],
    ['zoo/genai-llama-tied', 'model.onnx', 'nbits'],
    ['zoo/optimum-llama-fp16', 'model.onnx', 'nbits'],
    ['zoo/optimum-merged', 'decoder_model_merged.onnx', 'nbits'],
    ['zoo/optimum-gpt2', 'model.onnx', 'portable'],
    ['zoo/optimum-merged', 'decoder_model_merged.onnx', 'portable'],
  ])('%s/%s, %s: learned in 2 bits, the logits are nearer to the float ones', async (name, file, form) => {
    const calib = join(folder, 'calib.jsonl')
    const samples = Array.from({ length: 12 }, (_, i) =>
      Array.from({ length: TOKENS }, (__, t) => (i * 37 + t * 89) % 251),
    )
    writeFileSync(calib, samples.map(sample => JSON.stringify(sample)).join('\n'))
    const error = async (lwc: boolean): Promise<number> => {
      const { model, output, outer } = await quantizeModel({
        ...PLAIN,
        ...{ model: join(sharedDir!, name, file), output: join(folder, `${name}-${form}-${lwc}`), calib, lwc },
        ...{
          lmHead: 2,
          embedding: form === 'portable' ? 'float' : 2,
          scheme: form === 'portable' ? 'w8a8' : 'w8a16',
        },
        ...{ ignore: ['*'], let: false, samples: samples.length, seqLen: TOKENS, epochs: 1, threads: 1 },
        ...(form === 'portable' && { format: 'portable' }),
      })
      for (const { learnedLoss } of outer) expect(learnedLoss === undefined).toBe(!lwc)
      const source = join(sharedDir!, name)
      const [expected, got] = [await branches(model, source), await branches(output, source)]
      const all = expected.flatMap((values, i) => Array.from(values, (value, j) => value - got[i]![j]!))
      return all.reduce((sum, x) => sum + x * x, 0)
    }
    expect((await error(true)) / (await error(false))).toBeLessThan(0.9)
  })

  test('a merged file: both branches, stored once', async () => {
    const name = 'zoo/optimum-merged'
    const report = await quantizeOuter(name, { lmHead: 8, embedding: 8 }, 'decoder_model_merged.onnx')
    const { output } = report
    expect([count(output, 'MatMulNBits'), count(output, 'GatherBlockQuantized')]).toEqual([2, 2])
    const codes = loadModel(output).graph.initializers.filter(
      ({ dtype, shape }) => dtype === 'uint8' && shape?.[0] === 256,
    )
    expect(codes.map(({ shape }) => shape!.slice(1))).toEqual(expect.arrayContaining([[2, 32], [64]]))
    expect(codes.filter(({ shape }) => shape!.length === 3 || shape![1] === 64).length).toBe(2)
    const folderOf = join(sharedDir!, name)
    const [float, quantized] = [await branches(report.model, folderOf), await branches(output, folderOf)]
    float.forEach((expected, i) => {
      const range = Math.max(...expected) - Math.min(...expected)
      const worst = Math.max(...expected.map((value, j) => Math.abs(value - quantized[i]![j]!)))
      expect(worst / range, `branch ${i}`).toBeLessThan(0.02)
      expect(worst).toBeGreaterThan(0)
    })
  })

  test.each([
    [{ lmHead: 4 }, ['lm_head'], [1, 0], 'quantizing only lm_head'],
    [{ embedding: 4 }, ['embedding'], [0, 1], 'quantizing only the embedding'],
    [{ lmHead: 4, embedding: 8 }, ['lm_head', 'embedding'], [1, 1], 'in different bits'],
  ] as const)('a tied pair with %o', async (outer, roles, nodes, note) => {
    const report = await quantizeOuter('zoo/optimum-llama-tied', outer)
    expect(report.outer.map(({ role }) => role)).toEqual(roles)
    expect([count(report.output, 'MatMulNBits'), count(report.output, 'GatherBlockQuantized')]).toEqual(nodes)
    expect(report.notes.filter(text => text.includes(note)).length).toBe(1)
    const float = loadModel(report.output).graph.initializers.some(({ name }) => name === 'model.embed_tokens.weight')
    expect(float).toBe(roles.length === 1)
    expect(statSync(report.output).size > report.sizeBefore).toBe(roles.length === 1)
    const source = join(sharedDir!, 'zoo/optimum-llama-tied')
    const [expected, got] = [await logits(report.model, source), await logits(report.output, source)]
    const range = Math.max(...expected) - Math.min(...expected)
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]!)))
    expect(worst / range).toBeLessThan(0.15)
  })
})
