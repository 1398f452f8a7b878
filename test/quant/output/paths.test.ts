import { basename, join } from 'node:path'
import { mkdirSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { planOutput } from '../../../src/quant/output/paths.ts'
import { testFolder } from '../../helpers/test-folder.ts'

test.each([
  [undefined, '/m/model-w4a16g128.onnx'],
  ['/out/q.onnx', '/out/q.onnx'],
  ['/out', '/out/model.onnx'],
])('-o %s writes %s', (asked, path) => {
  expect(planOutput('/m/model.onnx', asked, 'w4a16g128').path).toBe(path)
})

test.each(['/m/model.onnx', '/m'])('-o %s, the model itself, is refused', asked => {
  expect(() => planOutput('/m/model.onnx', asked, 'w4a16')).toThrow(expect.objectContaining({ code: 'E_OUTPUT' }))
})

test.each([
  ['model', 'w4a16g128', undefined, '/m/onnx/model_q4.onnx'],
  ['model', 'w2a16g64sym', '/out', '/out/onnx/model_q2.onnx'],
  ['model_fp16', 'w4a16g32', '/out/onnx', '/out/onnx/model_q4f16.onnx'],
  ['model', 'w3a16g128', '/m', '/m/onnx/model_w3a16g128.onnx'],
  ['model', 'w8a16', '/out', '/out/onnx/model_w8a16.onnx'],
  ['model_fp16', 'w4a4', undefined, '/m/onnx/model_fp16_w4a4.onnx'],
  ['decoder_model_merged', 'w4a16g128', undefined, '/m/onnx/decoder_model_merged_q4.onnx'],
  ['model', 'w4a16g128', '/out/q.onnx', '/out/q.onnx'],
])('onnx/%s.onnx at %s with -o %s writes %s', (name, scheme, asked, path) => {
  const plan = planOutput(`/m/onnx/${name}.onnx`, asked, scheme)
  expect(plan.path).toBe(path)
  expect(plan.dataFileName).toBe(asked?.endsWith('.onnx') ? undefined : `${basename(path)}_data`)
})

test.each([
  ['/m/model.onnx', '/m/model-w4a16g32-float16.onnx'],
  ['/m/onnx/model.onnx', '/m/onnx/model_q4f16.onnx'],
  ['/m/onnx/model_fp16.onnx', '/m/onnx/model_q4f16.onnx'],
])('%s made float16: %s', (source, path) => {
  expect(planOutput(source, undefined, 'w4a16g32', true).path).toBe(path)
})

test('a file of the transformers.js layout that is there already is not replaced', () => {
  const folder = testFolder()
  mkdirSync(join(folder, 'onnx'))
  writeFileSync(join(folder, 'onnx/model_q4.onnx'), 'of the hub')
  expect(() => planOutput(join(folder, 'onnx/model.onnx'), undefined, 'w4a16g128')).toThrow(
    /model_q4.onnx is there already/,
  )
})
