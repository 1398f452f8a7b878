/** @file --float16 on a whole model: what is refused, what stays as it is, and the type that scales get. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import type { DType } from '../../../src/graph/dtype.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { inFloat16 } from '../../../src/quant/float16/in-float16.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { planEmbeddings } from '../../../src/quant/plan/plan-embeddings.ts'
import { retype } from '../../helpers/retype.ts'
import { testFolder } from '../../helpers/test-folder.ts'

const FIXTURE = resolve(import.meta.dirname, '../../../fixtures/tiny-llama/model.onnx')

async function analyzed(dtype: 'float32' | 'float16' | 'bfloat16') {
  const path = join(testFolder(), 'model.onnx')
  await saveModel(dtype === 'float32' ? loadModel(FIXTURE) : retype(loadModel(FIXTURE), 'float32', dtype), path)
  return analyze(path, 8)
}

test('a bfloat16 model is refused', async () => {
  const analysis = await analyzed('bfloat16')
  expect(() => inFloat16(analysis)).toThrow(
    expect.objectContaining({
      code: 'E_UNSUPPORTED',
      message: expect.stringContaining('computes in bfloat16') as string,
    }),
  )
})

test('a float16 model stays as it is, and the user is told', async () => {
  const analysis = await analyzed('float16')
  const types = () => analysis.model.graph.nodes.map(({ kind, outputs: [output] }) => [kind, output!.dtype])
  const before = types()
  const { analysis: same, notes } = inFloat16(analysis)
  expect(same).toBe(analysis)
  expect(notes).toEqual([expect.stringContaining('the model is float16 already')])
  expect(types()).toEqual(before)
})

test('a float32 model: inputs, outputs, and the scales of lm_head and embedding; the working copy keeps its numbers', async () => {
  const found = await analyzed('float32')
  const scaleTypes = () =>
    planEmbeddings(found, { lmHead: 8, embedding: 8 }, false).jobs.map(({ quantizer }) => quantizer.scaleDtype)
  expect(new Set(scaleTypes())).toEqual(new Set(['float32']))
  const { analysis, notes } = inFloat16(found)
  const floats: readonly DType[] = ['float32', 'float16']
  const { inputs, outputs } = analysis.model.graph
  const ports = [...inputs, ...outputs].filter(({ dtype }) => dtype && floats.includes(dtype))
  expect(ports.length).toBeGreaterThan(1)
  for (const { dtype } of ports) expect(dtype).toBe('float16')
  expect(notes).toEqual([expect.stringMatching(/^inputs and outputs that were float32 are float16: .* more$/)])
  expect(new Set(scaleTypes())).toEqual(new Set(['float16']))
  const weights = analysis.blocks.flatMap(({ linears }) => linears.map(({ weight }) => weight.tensor!.dtype))
  expect(new Set(weights)).toEqual(new Set(['float32']))
})
