/** @file Static activations in files of real exporters: the QDQ form computes what the float file does, to the width of its codes. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { checkEmitted } from '../helpers/emitted.ts'
import { needsShared, sharedDir } from '../helpers/shared.ts'
import { shipped } from '../helpers/shipped.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { FILES, modelOf } from './files.ts'
import { PLAIN } from '../helpers/method.ts'

const folder = tempDir()

/** Files, and the sites of a block. */
const SITES: Readonly<Record<string, number>> = {
  // Inputs of q, k and v, of o, of gate and up, of down; queries, keys and values.
  'zoo/optimum-llama-opset14': 7,
  'zoo/optimum-llama-fp16': 7,
  // qkv come in one product, and are quantized in one.
  'zoo/genai-llama-fp32': 5,
  // fc1 and fc2 are Gemm.
  'zoo/optimum-opt': 7,
}

describe('static activations', needsShared, () => {
  test.each(Object.entries(SITES))('%s', async (name, sites) => {
    const float = await logitsOf(modelOf(name))
    const errors: number[] = []
    for (const scheme of ['w8a8', 'w8a16']) {
      const output = join(folder, `${name.replace('/', '-')}-${scheme}`, 'model.onnx')
      await quantizeModel({
        ...PLAIN,
        ...{ model: modelOf(name), output, scheme, staticActivations: true, format: 'qdq', lwc: false, let: false },
        ...{ samples: 2, seqLen: 16, threads: 1 },
      })
      checkEmitted(output)
      const quantize = loadModel(output).graph.nodes.filter(({ opType }) => opType === 'QuantizeLinear')
      expect(quantize.length).toBe(FILES[name]!.blocks * sites)
      const logits = await logitsOf(output)
      expect(relativeError(await logitsOf(output, {}, { optimization: 'disabled' }), logits)).toBeLessThan(1e-3)
      errors.push(relativeError(float, logits))
    }
    // Text that the model writes itself says little about other tokens: some numbers are clipped, whatever the width.
    expect(errors[0]!).toBeLessThan(0.2)
    expect(errors[1]!).toBeLessThan(0.2)
  })
})

// fc1 has a bias and a Relu behind it: the form that onnxruntime's passes for QDQ files look for.
describe('blocks of the file give the trained output with static activations', needsShared, () => {
  test.each([
    ['w8a8', 'integer'],
    ['w8a8', 'portable'],
    ['w8a8', 'qdq'],
    ['w8a16', 'portable'],
    ['w8a16', 'qdq'],
  ] as const)('wiki-opt %s %s', async (text, format) => {
    const method = {
      ...{ scheme: parseScheme(text, { staticActivations: true }), lwc: true, learnRanges: true },
      ...{ range: 'minmax' as const, epochs: 2, learningRate: 5e-2, schedule: 'constant' as const },
    }
    const model = join(sharedDir!, 'models/wiki-opt/optimum-past')
    // Few tokens: a number that lies next to the middle between two codes may round the other way after another order of a sum.
    const { finished, errors } = await shipped(model, testFolder(), method, { format }, { tokens: 6, vocabulary: 2000 })
    expect(finished.map(({ report }) => report.kept)).toContain('learned')
    for (const [i, error] of errors.entries()) expect(error, `block ${i}`).toBeLessThan(1e-4)
  })
})
