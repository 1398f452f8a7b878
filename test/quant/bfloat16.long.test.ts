/** @file bfloat16 models, which no CPU kernel runs: quantized with tokens that are given, and float32 only where a product is. */

import { copyFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { readFloats } from '../../src/kernels/float16.ts'
import { openModel } from '../../src/kernels/session.ts'
import { inspectModel } from '../../src/quant/inspect.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { type QuantizeOptions } from '../../src/quant/terms/options.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { retype } from '../helpers/retype.ts'
import { testFolder } from '../helpers/test-folder.ts'
import { PLAIN } from '../helpers/method.ts'

const FIXTURE = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const TOKENS = BigInt64Array.from({ length: 24 }, (_, i) => BigInt((i * 37 + 5) % 320))

/** The fixture in bfloat16, in a folder of its own. */
async function source(): Promise<string> {
  const folder = testFolder()
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'config.json'])
    copyFileSync(join(FIXTURE, name), join(folder, name))
  const path = join(folder, 'model.onnx')
  await saveModel(retype(loadModel(join(FIXTURE, 'model.onnx')), 'float32', 'bfloat16'), path)
  return path
}

const quantize = (model: string, scheme: string, options: Partial<QuantizeOptions> = {}) =>
  quantizeModel({
    ...PLAIN,
    ...{ model, output: testFolder(), scheme: parseScheme(scheme), lwc: true, calib: join(FIXTURE, 'calib.txt') },
    ...{ samples: 4, seqLen: 32, epochs: 4, seed: 0, learningRate: 1e-2, schedule: 'cosine' as const },
    ...{ accuracyLevel: 0 as const, ...options },
  })

/** Logits of a bfloat16 file, with float16 in its place, which CPUs have: types that do not fit each other show. */
async function logits(path: string): Promise<Float32Array> {
  const halved = join(testFolder(), 'half.onnx')
  const model = retype(loadModel(path), 'bfloat16', 'float16')
  const io = describeIo(model, FIXTURE)
  await saveModel(model, halved)
  const session = await openModel(halved)
  try {
    const outputs = await session.run(feedsFor(io, TOKENS, 1, TOKENS.length), [io.logits.name])
    return readFloats(outputs[io.logits.name]!)
  } finally {
    await session.release()
  }
}

test.each([
  ['w8a16', 0.02],
  ['w4a16g32', 0.2],
  ['w8a8', 0.05],
  ['w4a4', 0.4],
])('%s: inputs, outputs and what lies between products stay bfloat16', async (scheme, tolerance) => {
  const model = await source()
  const report = await quantize(model, scheme)
  if (scheme.startsWith('w4')) expect(report.blocks.map(({ kept }) => kept)).toContain('learned')
  expect(report.notes).toContain('quantized linears compute in float32, between casts from bfloat16 and back to it')
  const [before, after] = [loadModel(model).graph, loadModel(report.output).graph]
  const ports = (values: readonly { name: string; dtype: unknown; shape: unknown }[]) =>
    values.map(({ name, dtype, shape }) => [name, dtype, shape])
  expect(ports(after.inputs)).toEqual(ports(before.inputs))
  expect(ports(after.outputs)).toEqual(ports(before.outputs))
  expect(before.inputs.some(({ dtype }) => dtype === 'bfloat16')).toBe(true)
  const products = after.nodes.filter(({ opType }) => /MatMulNBits|MatMulIntegerToFloat/.test(opType))
  expect(products).toHaveLength(report.blocks.flatMap(({ linears }) => linears).length)
  // Gains and biases that transformations changed have the type they had.
  const transformed = after.initializers.filter(({ name }) => name.endsWith('_transformed'))
  if (scheme === 'w4a4') expect(transformed.length).toBeGreaterThan(3)
  for (const { dtype } of transformed) expect(dtype).toBe('bfloat16')

  const [expected, got] = [await logits(model), await logits(report.output)]
  const range = Math.max(...expected) - Math.min(...expected)
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]!)))
  expect(worst / range).toBeLessThan(tolerance)
  expect(worst).toBeGreaterThan(0)
})

test('the QDQ form: weights of float32, between casts', async () => {
  const model = await source()
  const report = await quantize(model, 'w8a16', { format: 'qdq', lwc: false, epochs: 0 })
  const { nodes } = loadModel(report.output).graph
  const products = nodes.filter(({ inputs }) => inputs[1]?.producer?.opType === 'DequantizeLinear')
  expect(products).toHaveLength(report.blocks.flatMap(({ linears }) => linears).length)
  for (const { inputs } of products) expect(inputs[1]!.producer!.inputs[1]!.dtype).toBe('float32')
  const [expected, got] = [await logits(model), await logits(report.output)]
  const range = Math.max(...expected) - Math.min(...expected)
  expect(Math.max(...expected.map((value, i) => Math.abs(value - got[i]!))) / range).toBeLessThan(0.03)
})

test('lm_head and embedding', async () => {
  const model = await source()
  const report = await quantize(model, 'w8a16', { lmHead: 8, embedding: 8, epochs: 0, lwc: false })
  const [expected, got] = [await logits(model), await logits(report.output)]
  const range = Math.max(...expected) - Math.min(...expected)
  expect(Math.max(...expected.map((value, i) => Math.abs(value - got[i]!))) / range).toBeLessThan(0.03)
})

test('without calibration data the error names what has no kernel', async () => {
  const model = await source()
  await expect(quantize(model, 'w4a16', { calib: undefined as unknown as string })).rejects.toMatchObject({
    code: 'E_RUNTIME',
    message: expect.stringMatching(
      /cannot write its own calibration text, because it does not run here: .*bfloat16.* in node \(\/model\/rotary_emb\/Sin\)/,
    ) as string,
    hint: expect.stringContaining('`calib: FILE`') as string,
  })
  const { blocks, problem, types } = await inspectModel({ model })
  expect(problem).toBeUndefined()
  expect(blocks.map(({ linears }) => linears.map(({ dtype }) => dtype))).toEqual(
    blocks.map(() => Array<string>(7).fill('bfloat16')),
  )
  expect(types[0]!.dtype).toBe('bfloat16')
})
