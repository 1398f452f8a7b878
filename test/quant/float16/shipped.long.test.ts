/** @file A float16 file computes what was trained: its scales, gains and biases are those of the training program. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { narrowed, readFloats, storeFloats } from '../../../src/kernels/float16.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { shipped } from '../../helpers/shipped.ts'
import { testFolder } from '../../helpers/test-folder.ts'

const FIXTURE = resolve(import.meta.dirname, '../../../fixtures/tiny-llama/model.onnx')

/** The fixture with an embedding of float16 numbers, so that all that differs lies in the blocks. */
async function source(): Promise<string> {
  const model = loadModel(FIXTURE)
  for (const value of model.graph.initializers) {
    const { tensor } = value
    if (tensor?.dtype !== 'float32' || tensor.dims.length !== 2) continue
    value.tensor = storeFloats('float32', tensor.dims, readFloats(narrowed(tensor)))
  }
  const path = join(testFolder(), 'model.onnx')
  await saveModel(model, path)
  return path
}

test.each([
  ['w4a16g32', 2e-5, false],
  ['w2a16g16', 2e-5, false],
  // A number that rounds the other way moves a whole step.
  ['w4a4', 2e-4, true],
  ['w4a4', 2e-4, 'affine'],
] as const)('%s: every block gives the trained output within %d', async (text, tolerance, transformations) => {
  const work = testFolder()
  const scheme = parseScheme(text)
  const { finished, errors } = await shipped(
    await source(),
    work,
    { scheme, lwc: true, let: transformations, epochs: 3, learningRate: 5e-2, schedule: 'constant', session: {} },
    {},
    { tokens: 32, vocabulary: 320, float16: true },
  )
  expect(Math.max(...errors)).toBeLessThan(tolerance)
  const inPlanes = scheme.activations !== undefined && scheme.weights.group === undefined
  const types = new Set(finished.flatMap(({ plan }) => [...plan.quantizers.values()].map(each => each.scaleDtype)))
  expect([...types]).toEqual([inPlanes ? 'float32' : 'float16'])
  const file = loadModel(join(work, 'plain.onnx')).graph
  const scales = file.initializers.filter(({ name }) => name.endsWith('_scales'))
  expect(scales.every(({ dtype }) => dtype === 'float16')).toBe(true)
  expect(scales.length).toBe(inPlanes ? 0 : finished.flatMap(({ linears }) => linears).length)
})
