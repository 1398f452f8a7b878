/** @file Real exporters' files in the QDQ form: with products in float32 they give what MatMulNBits gives. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { opsetOf } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { evaluateModel } from '../../src/quant/evaluate.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type LogitsOptions, logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { checkEmitted } from '../helpers/emitted.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { modelOf } from './files.ts'
import { PLAIN } from '../helpers/method.ts'

/** Paths of the file rounded to nearest in both forms. */
async function bothForms(name: string): Promise<{ qdq: string; nbits: string }> {
  const common = { ...PLAIN, model: modelOf(name), scheme: 'w4a16g32', lwc: false }
  const qdq = await quantizeModel({ ...common, output: join(testFolder(), 'qdq.onnx'), format: 'qdq' })
  const nbits = await quantizeModel({ ...common, output: join(testFolder(), 'nbits.onnx') })
  checkEmitted(qdq.output)
  return { qdq: qdq.output, nbits: nbits.output }
}

describe('the QDQ form of real files', needsShared, () => {
  test.each<[name: string, opset: number, tolerance: number, prompts?: readonly LogitsOptions[]]>([
    ['zoo/optimum-llama-opset14', 21, 1e-5],
    ['zoo/dynamo-llama-opset20', 21, 1e-5],
    ['zoo/dynamo-llama-opset23', 23, 1e-5],
    ['zoo/genai-llama-fp32', 21, 1e-5],
    ['zoo/genai-llama-fp16', 21, 2e-3],
    ['zoo/mobius-llama', 24, 1e-5],
    ['zoo/optimum-gpt2', 21, 1e-5],
    ['zoo/optimum-opt', 21, 1e-5],
    ['zoo/optimum-merged', 21, 1e-5, [{ flag: 0 }, { flag: 1 }]],
  ])(
    '%s is written in opset %i and gives the logits of MatMulNBits',
    async (name, opset, tolerance, prompts = [{}]) => {
      const { qdq, nbits } = await bothForms(name)
      expect(opsetOf(loadModel(qdq))).toBe(opset)
      for (const prompt of prompts) {
        const expected = await logitsOf(nbits, prompt)
        expect(relativeError(expected, await logitsOf(qdq, prompt, { qdqAccuracyLevel: 0 }))).toBeLessThan(tolerance)
        // Products in branches are not fused.
        const stock = relativeError(expected, await logitsOf(qdq, prompt))
        if (name !== 'zoo/optimum-merged') expect(stock).toBeGreaterThan(1e-4)
        expect(stock).toBeLessThan(0.05)
      }
    },
  )

  test('perplexity is that of MatMulNBits; stock onnxruntime measures that of 8-bit inputs', async () => {
    const { qdq, nbits } = await bothForms('models/wiki-llama/optimum-past')
    const text = join(sharedDir!, 'data/eval.txt')
    const measured = (model: string, qdqAccuracyLevel?: 0 | 4) =>
      evaluateModel({ model, text, windows: 2, qdqAccuracyLevel }).then(({ perplexity }) => perplexity)
    const exact = await measured(qdq, 0)
    expect(exact / (await measured(nbits))).toBeCloseTo(1, 6)
    const stock = await measured(qdq)
    expect(Math.abs(stock / exact - 1)).toBeGreaterThan(1e-5)
    expect(Math.abs(stock / exact - 1)).toBeLessThan(5e-3)
  })
})
