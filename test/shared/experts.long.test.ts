/** @file Mixtures of experts as exporters write them: what is trained ships, and experts that saw few tokens are rounded. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readBytes } from '../../src/graph/tensor.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { shipped } from '../helpers/shipped.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'

const LEARNING = { lwc: true, epochs: 3, learningRate: 5e-2, schedule: 'constant' as const }
const METHOD = { ...LEARNING, session: {} }

describe('mixtures of experts', needsShared, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-experts-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))
  const work = () => mkdtempSync(join(folder, 'run-'))
  const modelOf = (name: string) => join(sharedDir!, 'zoo', name, 'model.onnx')

  test.each([
    ['optimum-qwen3-moe', 'w4a16g32', false, 1e-5],
    ['optimum-qwen3-moe', 'w4a16g32', true, 1e-5],
    ['optimum-qwen3-moe', 'w4a4', true, 1e-4],
    ['genai-gptoss', 'w4a16g32', false, 1e-5],
    ['genai-gptoss', 'w3a16', true, 1e-5],
    ['genai-gptoss', 'w3a8', true, 1e-4],
  ])('%s at %s, transformed: %s: every block of the file gives the trained output, to %d', async (...row) => {
    const [name, text, transformed, tolerance] = row
    const gentle = transformed && { epochs: 10, learningRate: 1e-2 }
    const method = { ...METHOD, ...gentle, let: transformed, scheme: parseScheme(text) }
    const sizes = { tokens: 32, vocabulary: 256 }
    const { finished, errors } = await shipped(modelOf(name), work(), method, { accuracyLevel: 0 }, sizes)
    expect(finished.map(({ report }) => report.kept)).toContain('learned')
    for (const error of errors) expect(error).toBeLessThan(tolerance)
  })

  /** Bytes of every constant whose name matches. */
  const constants = (path: string, pattern: RegExp) =>
    new Map(
      loadModel(path).graph.initializers.flatMap(({ name, tensor }) =>
        pattern.test(name) ? [[name, Buffer.from(readBytes(tensor!)).toString('base64')] as const] : [],
      ),
    )

  test.each(['optimum-qwen3-moe', 'genai-gptoss'])(
    '%s: experts that saw few tokens are what rounding makes of them, also when learned parameters are used again',
    async name => {
      const pattern = /_(Q4|scales|zero_points)$/
      const calib = join(work(), 'few.jsonl')
      writeFileSync(calib, [3, 7].map(first => JSON.stringify(Array<number>(12).fill(first))).join('\n'))
      const base = { model: modelOf(name), scheme: parseScheme('w4a16g32'), accuracyLevel: 0 as const, calib }
      const settings = { ...LEARNING, ...base, samples: 2, seqLen: 12, seed: 0 }
      const params = join(work(), 'learned.safetensors')
      const learned = await quantizeModel({ ...settings, epochs: 20, output: work(), saveParams: params })
      const again = await quantizeModel({ ...settings, epochs: 20, output: work(), params })
      const rounded = await quantizeModel({ ...settings, lwc: false, let: false, output: work() })
      expect(learned.blocks.map(({ kept }) => kept)).toEqual(['learned', 'learned'])
      // 24 tokens, each sent to 2 of 4 experts. With one token repeated, some experts would see none.
      const few = learned.blocks.map(({ fewTokens }) => fewTokens)
      expect(few[0]!.needed).toBe(16)
      expect(few[0]!.experts.length).toBeGreaterThanOrEqual(1)
      expect(learned.notes).toContain(
        `block 0: ${few[0]!.experts.length === 1 ? 'expert' : 'experts'} ${few[0]!.experts.join(', ')} ` +
          'saw fewer than 16 tokens: rounded to nearest',
      )
      const [after, before] = [constants(learned.output, pattern), constants(rounded.output, pattern)]
      expect([...after.keys()]).toEqual([...before.keys()])
      expect(constants(again.output, pattern)).toEqual(after)
      const same = [...after].filter(([key, bytes]) => before.get(key) === bytes).length
      expect(same).toBeGreaterThan(0)
      expect(same).toBeLessThan(after.size)
    },
  )

  test.each([
    ['optimum-qwen3-moe', 'gate'],
    ['genai-gptoss', 'router'],
  ])('inspect says why the router of %s stays float', async (name, router) => {
    const { blocks, skipped } = await inspectModel({ model: modelOf(name) })
    const routers = skipped.filter(({ reason }) => reason.startsWith('router: '))
    expect(routers).toHaveLength(blocks.length)
    for (const { node } of routers) expect(node).toContain(router)
  })
})
