/**
 * @file The programs of learning, and files that we write, on WebGPU: any driver does, one without a GPU too. Folding runs on the CPU
 * whatever the device is (test/quant/learn/fold-block.test.ts).
 */

import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { evaluateModel } from '../../src/quant/evaluate.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { FIXTURE, firstBlock } from './first-block.ts'
import { endJobs, missingWebgpu, runJob } from './vulkan.ts'
import { unless } from '../helpers/unless.ts'

const missing = await missingWebgpu()
afterAll(endJobs)

const CALIBRATION: Partial<QuantizeOptions> = {
  ...{ calib: join(FIXTURE, 'calib.txt'), accuracyLevel: 0, lmHead: 'float', embedding: 'float' },
  ...{ samples: 8, seqLen: 64, epochs: 2, learningRate: 5e-2, seed: 0 },
}
const EVALUATION = { text: join(FIXTURE, 'eval.txt'), seqLen: 64, windows: 20 }

describe('WebGPU', unless(missing), () => {
  // Rounding of activations turns the last bits of a number into steps: only the first loss of W4A4 is the same.
  test.each([
    ['w4a16g32', 10],
    ['w2a16g64', 10],
    ['w4a4', 1],
  ])('forward and training of %s: the first losses', async (scheme, equal) => {
    const steps = 10
    const [got, expected] = await Promise.all([runJob('block', { scheme, steps }), firstBlock(scheme, steps, {})])
    expect(relativeError(expected.outputs, got.outputs)).toBeLessThan(1e-5)
    if (scheme === 'w4a4') expect(relativeError(expected.ranges, got.ranges)).toBeLessThan(1e-5)
    expected.losses.forEach((loss, step) => {
      expect(Math.abs(got.losses[step]! / loss - 1), `step ${step}`).toBeLessThan(step < equal ? 1e-4 : 0.1)
    })
  })

  test('a whole run at W4A16, and its evaluation', async () => {
    const [onCpu, onWebgpu] = [join(testFolder(), 'cpu.onnx'), join(testFolder(), 'webgpu.onnx')]
    const options: QuantizeOptions = { model: FIXTURE, scheme: 'w4a16g32', ...CALIBRATION }
    const kept = await runJob('quantize', { ...options, output: onWebgpu })
    expect(kept).toContain('learned')
    await quantizeModel({ ...options, output: onCpu })
    const expected = await evaluateModel({ model: onCpu, ...EVALUATION })
    const got = await evaluateModel({ model: onWebgpu, ...EVALUATION })
    expect(Math.abs(got.perplexity / expected.perplexity - 1)).toBeLessThan(2e-3)
    const perplexity = await runJob('evaluate', { model: onWebgpu, ...EVALUATION })
    expect(Math.abs(perplexity / got.perplexity - 1)).toBeLessThan(1e-5)
  })

  test('files with MatMulNBits of 2, 4 and 8 bits and GatherBlockQuantized give the logits of the CPU', async () => {
    const folder = testFolder()
    for (const [scheme, lmHead, embedding] of [
      ['w2a16g32', 2, 4],
      ['w4a16g32', 4, 4],
      ['w8a16g32', 8, 8],
    ] as const) {
      const model = join(folder, `${scheme}.onnx`)
      await quantizeModel({ model: FIXTURE, output: model, scheme, lwc: false, accuracyLevel: 0, lmHead, embedding })
      expect(relativeError(await logitsOf(model), await runJob('logits', { model })), scheme).toBeLessThan(1e-5)
    }
  })
})
