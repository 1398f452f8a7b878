/** @file Real exporters' files through the whole pipeline: the result opens where the source does and says the same. */

import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeIo, feedsFor, type ModelIo } from '../../src/calibration/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type Session } from '../../src/kernels/session.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/scheme.ts'
import { sharedDir } from '../helpers/shared.ts'

const TOKENS = 24
const METHOD = {
  ...{ lwc: true, samples: 2, seqLen: TOKENS, epochs: 2, seed: 0, learningRate: 1e-2, schedule: 'cosine' as const },
  ...{ accuracyLevel: 0 as const, session: {} },
}

/** Folder under ../shared -> linears of each block, counted by hand from design/exporters.md. */
const FILES: Record<string, number> = {
  'models/wiki-llama/optimum-past': 7,
  'models/wiki-llama/optimum-nopast': 7,
  'models/wiki-llama/genai-fp32': 5, // q, k and v are one product
  'models/wiki-llama/genai-fp16': 5,
  'models/wiki-opt/optimum-past': 6, // q, k, v, out, fc1, fc2; the last two are Gemm
  'zoo/optimum-llama-past': 7,
  'zoo/optimum-llama-nopast': 7,
  'zoo/optimum-llama-opset14': 7,
  'zoo/optimum-llama-eager': 7,
  'zoo/optimum-llama-external': 7,
  'zoo/optimum-llama-tied': 7,
  'zoo/optimum-llama-fp16': 7,
  'zoo/optimum-qwen2': 7,
  'zoo/optimum-qwen3': 7,
  'zoo/optimum-opt': 6,
  'zoo/optimum-merged/decoder_model_merged.onnx': 7, // in each branch; merged.test.ts has the second one
  'zoo/optimum-gpt2': 4, // c_attn, c_proj, c_fc, c_proj: all Gemm
  'zoo/optimum-phi3': 4, // qkv, o, gate_up, down
  'zoo/optimum-gptneox': 4,
  'zoo/optimum-falcon': 4,
  'zoo/optimum-bloom': 4,
  'zoo/optimum-gemma2-eager': 7,
  'zoo/genai-llama-fp32': 5,
  'zoo/genai-llama-fp16': 5,
  'zoo/genai-llama-tied': 5,
  'zoo/genai-llama-dml': 7,
  'zoo/genai-qwen3': 5,
  'zoo/dynamo-llama-opset20': 7,
  'zoo/dynamo-llama-opset23': 7,
  'zoo/dynamo-gpt2': 4,
  'zoo/dynamo-llama-tied': 7,
  'zoo/mobius-llama': 7,
  'zoo/ort-optimized-llama': 7,
  'zoo/optimum-qwen3-moe': 16, // q, k, v, o; gate, up and down of 4 experts
  'zoo/genai-gptoss': 10, // qkv, o; gate_up and down of 4 experts, in one node
}

/** Mixtures of experts: each block has a router, which stays float. */
const ROUTED = ['zoo/optimum-qwen3-moe', 'zoo/genai-gptoss']

/** Schemes, and how far logits may be from the source's, as a part of their range. */
const SCHEMES = [
  ['w8a16', 0.02],
  ['w8a8', 0.05],
] as const

async function logits(session: Session, io: ModelIo): Promise<Float32Array> {
  const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))
  const outputs = await session.run(feedsFor(io, tokens, 1, TOKENS), [io.logits.name])
  return readFloats(outputs[io.logits.name]!)
}

describe.skipIf(!sharedDir)('quantized files of every exporter', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-zoo-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test.each(Object.entries(FILES).flatMap(([name, linears]) => SCHEMES.map(row => [name, linears, ...row] as const)))(
    '%s: %i linears a block; at %s the same inputs and outputs, and logits within %d of their range',
    async (name, linears, scheme, tolerance) => {
      const model = join(sharedDir!, name, ...(name.endsWith('.onnx') ? [] : ['model.onnx']))
      const output = join(folder, scheme, dirname(name), basename(name, '.onnx'))
      const report = await quantizeModel({
        model,
        output,
        scheme: parseScheme(scheme),
        ...METHOD,
      })
      expect(report.blocks.map(block => block.linears.length)).toEqual(report.blocks.map(() => linears))
      const routers = ROUTED.includes(name) ? report.blocks.map(() => expect.stringMatching(/^router: /) as string) : []
      expect(report.skipped.map(({ reason }) => reason)).toEqual(routers)
      expect(report.notes.filter(note => note.includes('not quantized'))).toEqual([])
      expect(report.blocks.length).toBeGreaterThanOrEqual(2)
      const [source, quantized] = [await openModel(model), await openModel(report.output)]
      try {
        expect(quantized.inputs).toEqual(source.inputs)
        expect(quantized.outputs).toEqual(source.outputs)
        const io = describeIo(source, dirname(model))
        const [expected, got] = [await logits(source, io), await logits(quantized, io)]
        const range = Math.max(...expected) - Math.min(...expected)
        const width = expected.length / TOKENS
        const perToken = Array.from({ length: TOKENS }, (_, t) =>
          Math.max(
            ...expected.slice(t * width, (t + 1) * width).map((value, i) => Math.abs(value - got[t * width + i]!)),
          ),
        )
        // A token whose second and third expert weigh nearly the same may be sent to the other one: no more than one of them.
        const worst = perToken.sort((a, b) => b - a)[ROUTED.includes(name) ? 1 : 0]!
        expect(worst / range).toBeLessThan(tolerance)
        expect(worst).toBeGreaterThan(0)
      } finally {
        await source.release()
        await quantized.release()
      }
      expect(readdirSync(output).filter(file => file.startsWith('.'))).toEqual([])
    },
  )

  test.each(Object.keys(FILES).filter(name => name.startsWith('zoo/')))(
    '%s: a few steps at w4a16 bring its blocks nearer to the float ones than rounding does',
    async name => {
      const calib = join(folder, 'few.jsonl')
      const rows = Array.from({ length: 8 }, (_, row) =>
        Array.from({ length: TOKENS + 1 }, (_, i) => (i * 89 + row * 31) % 251),
      )
      writeFileSync(calib, rows.map(row => JSON.stringify(row)).join('\n'))
      const { blocks } = await quantizeModel({
        ...METHOD,
        model: join(sharedDir!, name, ...(name.endsWith('.onnx') ? [] : ['model.onnx'])),
        output: join(folder, 'few', dirname(name), basename(name, '.onnx')),
        scheme: parseScheme('w4a16', { perChannel: true }),
        ...{ calib, samples: 8, epochs: 20, learningRate: 5e-2 },
      })
      // One block in sixty, of random weights, is a percent worse than rounding after so few tokens, and then ships rounded.
      for (const { roundedLoss, learnedLoss } of blocks) expect(learnedLoss).toBeLessThan(1.03 * roundedLoss!)
      expect(blocks.some(({ kept }) => kept === 'learned')).toBe(true)
    },
  )

  test.each([
    [
      'genai-llama-int4-already-quantized',
      'E_ALREADY_QUANTIZED',
      'node "/model/layers.0/attn/qkv_proj/MatMul_Q4" is com.microsoft.MatMulNBits',
    ],
  ])('%s is refused, and inspected all the same: %s, %s', async (name, code, message) => {
    const { problem, inputs, parameters } = await inspectModel({ model: join(sharedDir!, 'zoo', name) })
    expect(problem).toMatchObject({ code, message: expect.stringContaining(message) as string })
    expect(inputs[0]!.name).toBe('input_ids')
    expect(parameters).toBeGreaterThan(10_000)
  })

  test('genai-phi2, which does not run on CPUs: says why, and is quantized with tokens that are given', async () => {
    const model = join(sharedDir!, 'zoo/genai-phi2/model.onnx')
    const options = { model, output: join(folder, 'phi2'), scheme: parseScheme('w4a16'), ...METHOD }
    await expect(quantizeModel(options)).rejects.toMatchObject({
      code: 'E_RUNTIME',
      message:
        'the model cannot write its own calibration text, because it does not run here: onnxruntime could not run ' +
        'GroupQueryAttention "/model/layers.0/attn/GroupQueryAttention": cos_cache dimension 1 must be <= head_size / 2 ' +
        'and a multiple of 8.',
    })
    expect(existsSync(options.output)).toBe(false)
    const calib = join(folder, 'tokens.jsonl')
    writeFileSync(
      calib,
      [0, 1].map(row => JSON.stringify(Array.from({ length: 40 }, (_, i) => (i * 89 + row) % 251))).join('\n'),
    )
    const report = await quantizeModel({ ...options, calib })
    expect(report.blocks.map(({ linears }) => linears.length)).toEqual([4, 4])
    for (const { roundedLoss, learnedLoss } of report.blocks) expect(learnedLoss).toBeLessThan(2 * roundedLoss!)
  })
})
