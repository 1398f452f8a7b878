/** @file Real exporters' files through the whole pipeline. The result opens where the source does and gives the same logits. */

import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo, hasCache, type ModelIo } from '../../src/decoder/model-io.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel, type Session } from '../../src/kernels/session.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { checkEmitted } from '../helpers/emitted.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { FILES, modelOf, REFUSED, RUNNING } from './files.ts'

const TOKENS = 24
const METHOD = {
  ...{ lwc: true, samples: 2, seqLen: TOKENS, epochs: 2, seed: 0, learningRate: 1e-2, schedule: 'cosine' as const },
  ...{ accuracyLevel: 0 as const },
}

/** Schemes, and the greatest allowed difference of logits from the source, as a part of their range. */
const SCHEMES = [
  ['w8a16', 0.02],
  ['w8a8', 0.05],
] as const

async function logits(session: Session, io: ModelIo): Promise<Float32Array> {
  const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))
  const outputs = await session.run(feedsFor(io, tokens, 1, TOKENS), [io.logits.name])
  return readFloats(outputs[io.logits.name]!)
}

describe('quantized files of every exporter', needsShared, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-zoo-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  test('every folder of the zoo has a row', () => {
    const folders = readdirSync(join(sharedDir!, 'zoo')).sort()
    const rows = [...Object.keys(FILES), ...Object.keys(REFUSED).map(name => `zoo/${name}`)]
    expect(rows.filter(name => name.startsWith('zoo/')).sort()).toEqual(folders.map(name => `zoo/${name}`))
  })

  test.each(RUNNING.flatMap(([name, file]) => SCHEMES.map(row => [name, file.linears, ...row, file] as const)))(
    '%s: %i linears a block; at %s the same inputs and outputs, and logits within %d of their range',
    async (name, linears, scheme, tolerance, { blocks, cache, routers }) => {
      const model = modelOf(name)
      const output = join(folder, scheme, name)
      const report = await quantizeModel({
        check: false,
        model,
        output,
        scheme: parseScheme(scheme),
        ...METHOD,
      })
      expect(report.blocks.map(block => block.linears.length)).toEqual(Array<number>(blocks).fill(linears))
      const skipped = routers ? Array<unknown>(blocks).fill(expect.stringMatching(/^router: /)) : []
      expect(report.skipped.map(({ reason }) => reason)).toEqual(skipped)
      expect(report.notes.filter(note => note.includes('not quantized'))).toEqual([])
      checkEmitted(report.output)
      const [source, quantized] = [await openModel(model), await openModel(report.output)]
      try {
        expect(quantized.inputs).toEqual(source.inputs)
        expect(quantized.outputs).toEqual(source.outputs)
        const io = describeIo(source, dirname(model))
        expect(hasCache(io)).toBe(cache)
        const [expected, got] = [await logits(source, io), await logits(quantized, io)]
        const range = Math.max(...expected) - Math.min(...expected)
        const width = expected.length / TOKENS
        const perToken = Array.from({ length: TOKENS }, (_, t) =>
          Math.max(
            ...expected.slice(t * width, (t + 1) * width).map((value, i) => Math.abs(value - got[t * width + i]!)),
          ),
        )
        // A token whose second and third expert weigh nearly the same may be sent to the other one: no more than one of them.
        const worst = perToken.sort((a, b) => b - a)[routers ? 1 : 0]!
        expect(worst / range).toBeLessThan(tolerance)
        expect(worst).toBeGreaterThan(0)
      } finally {
        await source.release()
        await quantized.release()
      }
      expect(readdirSync(output).filter(file => file.startsWith('.'))).toEqual([])
    },
  )

  test.each(RUNNING.map(([name]) => name).filter(name => name.startsWith('zoo/')))(
    '%s: a few steps at w4a16 bring its blocks nearer to the float ones than rounding does',
    async name => {
      const calib = join(folder, 'few.jsonl')
      const rows = Array.from({ length: 8 }, (_, row) =>
        Array.from({ length: TOKENS + 1 }, (_, i) => (i * 89 + row * 31) % 251),
      )
      writeFileSync(calib, rows.map(row => JSON.stringify(row)).join('\n'))
      const { blocks } = await quantizeModel({
        check: false,
        ...METHOD,
        model: modelOf(name),
        output: join(folder, 'few', name),
        scheme: parseScheme('w4a16', { perChannel: true }),
        ...{ calib, samples: 8, epochs: 20, learningRate: 5e-2 },
      })
      // One block in sixty, of random weights, is a percent worse than rounding after so few tokens, and then ships rounded.
      for (const { roundedLoss, learnedLoss } of blocks) expect(learnedLoss).toBeLessThan(1.03 * roundedLoss!)
      expect(blocks.some(({ kept }) => kept === 'learned')).toBe(true)
    },
  )

  test.each(Object.entries(REFUSED))('%s is refused, and inspected all the same', async (name, [code, message]) => {
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
    const { blocks, linears } = FILES['zoo/genai-phi2']!
    expect(report.blocks.map(block => block.linears.length)).toEqual(Array<number>(blocks).fill(linears))
    checkEmitted(report.output)
    for (const { roundedLoss, learnedLoss } of report.blocks) expect(learnedLoss).toBeLessThan(2 * roundedLoss!)
  })
})
