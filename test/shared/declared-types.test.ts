/** @file Declared types and numeric sizes of inner values in our files: they are what onnxruntime computes. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { describeIo } from '../../src/decoder/model-io.ts'
import type { DType } from '../../src/graph/dtype.ts'
import type { Value } from '../../src/graph/ir.ts'
import { type Model } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { openModel } from '../../src/kernels/session.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { needsShared } from '../helpers/shared.ts'
import { modelOf } from './files.ts'

const TOKENS = 12
/** Types that onnxruntime-node can hand out. */
const SHOWN: readonly DType[] = ['float32', 'float16', 'int64', 'int32', 'bool', 'uint8', 'int8']

/** Errors in the declarations of inner values, found by a run: value -> error. */
async function wrongDeclarations(path: string, folder: string): Promise<{ checked: number; wrong: string[] }> {
  const model: Model = loadModel(path)
  const { graph } = model
  const io = describeIo(model)
  const declared = graph.nodes
    .flatMap(({ outputs }) => outputs)
    .filter((value): value is Value => value?.dtype !== undefined && SHOWN.includes(value.dtype))
    .filter(value => !graph.outputs.includes(value))
  const all = new Map(declared.map(value => [value.name, { dtype: value.dtype, shape: value.shape }]))
  graph.outputs = [...graph.outputs, ...declared]
  // Outputs without types: onnxruntime infers its own.
  for (const value of declared) [value.dtype, value.shape, value.source] = [undefined, undefined, undefined]
  graph.source = undefined
  const shown = join(folder, 'shown.onnx')
  await saveModel(model, shown)
  const session = await openModel(shown)
  try {
    const tokens = BigInt64Array.from({ length: TOKENS }, (_, i) => BigInt((i * 89 + 7) % 251))
    const results = await session.run(feedsFor(io, tokens, 1, TOKENS), [...all.keys()])
    const wrong = [...all].flatMap(([name, { dtype, shape }]) => {
      const { dtype: real, dims } = results[name]!
      const fits =
        dtype === real &&
        (shape === undefined ||
          (shape.length === dims.length && shape.every((dim, i) => typeof dim !== 'number' || dim === dims[i])))
      return fits ? [] : [`${name}: ${dtype} [${shape?.join()}] is ${real} [${dims.join()}]`]
    })
    return { checked: all.size, wrong }
  } finally {
    await session.release()
  }
}

describe('declared types of written files', needsShared, () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'omniquant-declared-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  // Exporters that declare every value.
  test.each(
    [
      'zoo/dynamo-llama-opset20',
      'zoo/dynamo-gpt2',
      'zoo/genai-llama-fp16',
      'zoo/genai-qwen3',
      'zoo/mobius-llama',
    ].flatMap(name => ['w8a16', 'w4a4'].map(scheme => [name, scheme] as const)),
  )('%s at %s', async (name, scheme) => {
    const { output } = await quantizeModel({
      check: false,
      ...{ model: modelOf(name), output: join(folder, scheme, name), scheme: parseScheme(scheme), lwc: false },
      ...{ let: scheme === 'w4a4', samples: 1, seqLen: 8, epochs: 1, seed: 0, learningRate: 1e-2 },
      ...{ schedule: 'cosine', accuracyLevel: 0, lmHead: 8, embedding: 8 },
    })
    const before = await wrongDeclarations(modelOf(name), folder)
    const after = await wrongDeclarations(output, dirname(output))
    expect(after.checked).toBeGreaterThan(20)
    // Wrong declarations of the exporter (genai: constants) are not ours.
    expect(after.wrong.filter(line => !before.wrong.includes(line))).toEqual([])
  })
})
