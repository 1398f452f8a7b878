import { basename } from 'node:path'
import { describe, expect, test } from 'vitest'
import { homeOf, planOutput } from '../../../src/quant/output/paths.ts'

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

test.each<[string, string, boolean, string | undefined, string, string | undefined]>([
  ['model', 'w4a16g128', false, undefined, '/m/onnx/model_q4.onnx', 'q4'],
  ['model', 'w4a16g32sym', true, undefined, '/m/onnx/model_q4f16.onnx', 'q4f16'],
  ['model', 'w2a16g64sym', false, '/out', '/out/onnx/model_q2.onnx', 'q2'],
  ['model_fp16', 'w2a16g64', true, '/out', '/out/onnx/model_q2f16.onnx', 'q2f16'],
  ['model_fp16', 'w4a16g32', true, '/out/onnx', '/out/onnx/model_q4f16.onnx', 'q4f16'],
  ['model', 'w8a8', false, undefined, '/m/onnx/model_quantized.onnx', 'q8'],
  ['model', 'w8a16', false, '/out', '/out/onnx/model_int8.onnx', 'int8'],
  ['model', 'w3a16g128', false, '/m', '/m/onnx/model_w3a16g128.onnx', 'fp32'],
  ['model_fp16', 'w4a4', true, undefined, '/m/onnx/model_fp16_w4a4.onnx', 'fp32'],
  ['decoder_model_merged', 'w4a16g128', false, undefined, '/m/onnx/decoder_model_merged_q4.onnx', 'q4'],
  ['llama', 'w4a16g128', false, undefined, '/m/onnx/llama_q4.onnx', 'q4'],
  ['model', 'w4a16g128', false, '/out/q.onnx', '/out/q.onnx', undefined],
  ['model', 'w4a16g128', false, '/out/onnx/model_q4.onnx', '/out/onnx/model_q4.onnx', 'q4'],
])('onnx/%s.onnx at %s, float16 %s, with -o %s writes %s', (name, scheme, float16, asked, path, dtype) => {
  const plan = planOutput(`/m/onnx/${name}.onnx`, asked, scheme, { float16 })
  expect(plan.path).toBe(path)
  expect(plan.hub?.dtype).toBe(dtype)
})

describe('a source outside onnx/ enters the layout of transformers.js', () => {
  test.each<[string, string | undefined, 'transformers.js' | undefined, string, string]>([
    ['/m/model.onnx', undefined, 'transformers.js', '/m/onnx/model_q4.onnx', '/m'],
    ['/m/model.onnx', '/out', 'transformers.js', '/out/onnx/model_q4.onnx', '/out'],
    ['/m/model.onnx', '/out/onnx', undefined, '/out/onnx/model_q4.onnx', '/out'],
    ['/m/model_fp16.onnx', '/out/onnx', undefined, '/out/onnx/model_q4.onnx', '/out'],
    ['/m/my-llama.onnx', '/out', 'transformers.js', '/out/onnx/model_q4.onnx', '/out'],
    ['/m/decoder_model_merged.onnx', '/out', 'transformers.js', '/out/onnx/decoder_model_merged_q4.onnx', '/out'],
    ['/m/model.onnx', '/out/onnx/mine_q4f16.onnx', 'transformers.js', '/out/onnx/mine_q4f16.onnx', '/out'],
  ])('%s with -o %s and layout %s writes %s', (source, asked, layout, path, home) => {
    const plan = planOutput(source, asked, 'w4a16g32', { layout })
    expect(plan.path).toBe(path)
    expect(plan.hub?.file).toBe(basename(path))
    expect(homeOf(plan.path)).toBe(home)
  })

  test('a file elsewhere cannot have it', () => {
    expect(() => planOutput('/m/model.onnx', '/out/q.onnx', 'w4a16', { layout: 'transformers.js' })).toThrow(
      expect.objectContaining({ code: 'E_USAGE', option: 'layout' }),
    )
  })
})

test.each([
  ['/m/model.onnx', '/m/model-w4a16g32-float16.onnx'],
  ['/m/onnx/model.onnx', '/m/onnx/model_q4f16.onnx'],
  ['/m/onnx/model_fp16.onnx', '/m/onnx/model_q4f16.onnx'],
])('%s made float16: %s', (source, path) => {
  expect(planOutput(source, undefined, 'w4a16g32', { float16: true, converted: true }).path).toBe(path)
})
