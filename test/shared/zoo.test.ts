/** @file Real exporters' files through the whole pipeline: the result opens where the source does and says the same. */

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeIo, feedsFor, type ModelIo } from '../../src/calibration/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type Session } from '../../src/kernels/session.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/scheme.ts'
import { sharedDir } from '../helpers/shared.ts'

const TOKENS = 24

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
  'zoo/dynamo-llama-tied': 7,
  'zoo/mobius-llama': 7,
  'zoo/ort-optimized-llama': 7,
}

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
      const model = join(sharedDir!, name, 'model.onnx')
      const report = await quantizeModel({
        model,
        output: join(folder, scheme, name),
        scheme: parseScheme(scheme),
        lwc: true,
        samples: 2,
        seqLen: TOKENS,
        epochs: 2,
        seed: 0,
        learningRate: 1e-2,
        schedule: 'cosine',
        accuracyLevel: 0,
        session: {},
      })
      expect(report.blocks.map(block => block.linears.length)).toEqual(report.blocks.map(() => linears))
      expect(report.skipped).toEqual([])
      expect(report.notes.filter(note => note.includes('not quantized'))).toEqual([])
      expect(report.blocks.length).toBeGreaterThanOrEqual(2)
      const [source, quantized] = [await openModel(model), await openModel(report.output)]
      try {
        expect(quantized.inputs).toEqual(source.inputs)
        expect(quantized.outputs).toEqual(source.outputs)
        const io = describeIo(source, join(sharedDir!, name))
        const [expected, got] = [await logits(source, io), await logits(quantized, io)]
        const range = Math.max(...expected) - Math.min(...expected)
        const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]!)))
        expect(worst / range).toBeLessThan(tolerance)
        expect(worst).toBeGreaterThan(0)
      } finally {
        await source.release()
        await quantized.release()
      }
      expect(readdirSync(join(folder, scheme, name)).filter(file => file.startsWith('.'))).toEqual([])
    },
  )
})
