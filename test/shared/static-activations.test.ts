/** @file Static activations in files of real exporters: the QDQ form computes what the float file does, to the width of its codes. */

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { checkEmitted } from '../helpers/emitted.ts'
import { sharedDir } from '../helpers/shared.ts'
import { tempDir } from '../helpers/temp-dir.ts'
import { FILES, modelOf } from './files.ts'

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

describe.skipIf(!sharedDir)('static activations', () => {
  test.each(Object.entries(SITES))('%s', async (name, sites) => {
    const float = await logitsOf(modelOf(name))
    const errors: number[] = []
    for (const scheme of ['w8a8', 'w8a16']) {
      const output = join(folder, `${name.replace('/', '-')}-${scheme}`, 'model.onnx')
      await quantizeModel({
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
