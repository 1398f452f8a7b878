/**
 * @file Models that compute the same with numbers of another size: v_proj times 2^k and o_proj over it, up_proj and down_proj, norms and
 * the linears behind them. Rounded or with learned clipping they become the same codes, and scales that differ by 2^k exactly.
 */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { readBytes, readElements, type Tensor } from '../../src/graph/tensor.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { BlockReport } from '../../src/quant/terms/report.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { toyDecoder, toyTokens } from '../helpers/toy-decoder.ts'

/** Exponents of what constants are multiplied by, of layer 0; layer 1 gets the opposite. ReLU lets factors pass. */
const EXPONENTS: Readonly<Record<string, number>> = {
  'input_norm.weight': 9,
  'attn/q_proj.weight': -9,
  'attn/k_proj.weight': -9,
  'attn/v_proj.weight': -9 - 23,
  'attn/o_proj.weight': 23,
  'post_norm.weight': -14,
  'mlp/up_proj.weight': 14 - 17,
  'mlp/down_proj.weight': 17,
}

/** Exponent of a constant of the quantized model, by the constant it was made from. */
function exponentOf(name: string): number {
  const [, layer, part] = /layers\.(\d)[./](.*)/.exec(name) ?? []
  const key = Object.keys(EXPONENTS).find(each => part?.replaceAll('.', '/').startsWith(each.replace(/\.weight$/, '')))
  return key === undefined ? 0 : layer === '0' ? EXPONENTS[key]! : -EXPONENTS[key]!
}

interface Result {
  readonly blocks: readonly BlockReport[]
  readonly constants: ReadonlyMap<string, Tensor>
}

async function quantize(twin: boolean, scheme: string, options: Partial<QuantizeOptions>): Promise<Result> {
  const toy = toyDecoder()
  for (const { name, tensor } of toy.graph.initializers) {
    const numbers = readElements(tensor!) as Float32Array
    if (twin) numbers.forEach((x, i) => (numbers[i] = x * 2 ** exponentOf(name)))
  }
  const folder = testFolder()
  const [model, calib] = [join(folder, 'model.onnx'), join(folder, 'calib.jsonl')]
  await saveModel(toy.model, model)
  writeFileSync(calib, toyTokens(4, 13))
  const { output, blocks } = await quantizeModel({
    ...{ calib, model, output: join(folder, 'out'), scheme: parseScheme(scheme), lwc: true, let: false, epochs: 4 },
    ...{ samples: 4, seqLen: 12, seed: 0, learningRate: 1e-2, schedule: 'cosine', accuracyLevel: 0 },
    ...{ threads: 1, ...options },
  })
  const { graph } = loadModel(output)
  return { blocks, constants: new Map(graph.initializers.map(({ name, tensor }) => [name, tensor!])) }
}

test.each<[string, Partial<QuantizeOptions>]>([
  ['w4a16g32', { lwc: false }],
  ['w8a16', { lwc: false }],
  ['w4a16g32', { lwc: false, rounding: 'gptq' }],
  ['w2a16g32', { epochs: 8, rounding: 'nearest' }],
  ['w2a16g32', { epochs: 8, rounding: 'weighted-learned', lookahead: true }],
  ['w2a16g32', { epochs: 8 }],
  ['w2a8g32', { epochs: 8 }],
])('%s, %o: the twin has the same codes, scales times 2^k, and the same losses', async (scheme, options) => {
  const [plain, twin] = [await quantize(false, scheme, options), await quantize(true, scheme, options)]
  const losses = ({ blocks }: Result) =>
    blocks.map(({ roundedLoss, learnedLoss, kept }) => [roundedLoss, learnedLoss, kept])
  expect(losses(twin)).toEqual(losses(plain))
  if (options.lwc !== false) expect(plain.blocks.map(({ kept }) => kept)).toEqual(['learned', 'learned'])
  expect([...twin.constants.keys()]).toEqual([...plain.constants.keys()])
  let rescaled = 0
  for (const [name, tensor] of plain.constants) {
    const other = twin.constants.get(name)!
    const exponent = exponentOf(name)
    if (tensor.dtype !== 'float32' || exponent === 0) {
      expect(Buffer.from(readBytes(other)).equals(readBytes(tensor)), name).toBe(true)
      continue
    }
    const expected = (readElements(tensor) as Float32Array).map(x => x * 2 ** exponent)
    expect(readElements(other), name).toEqual(expected)
    rescaled++
  }
  // Two norms and six linears in each of two layers.
  expect(rescaled).toBeGreaterThanOrEqual(16)
})
