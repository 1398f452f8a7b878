import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { copyCompanions, planOutput } from '../../src/quant/output.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'omniquant-output-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

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

test('tokenizer and configuration travel along; weights and existing files do not', () => {
  const [from, to] = [join(folder, 'from'), join(folder, 'to')]
  for (const path of [from, to]) mkdirSync(path)
  const files = ['model.onnx', 'model.onnx.data', 'tokenizer.json', 'config.json', 'chat_template.jinja']
  for (const name of files) writeFileSync(join(from, name), 'from')
  writeFileSync(join(to, 'config.json'), 'mine')
  expect(copyCompanions({ source: join(from, 'model.onnx'), path: join(to, 'model.onnx') }).sort()).toEqual([
    'chat_template.jinja',
    'tokenizer.json',
  ])
  expect(readdirSync(to).sort()).toEqual(['chat_template.jinja', 'config.json', 'tokenizer.json'])
  expect(copyCompanions({ source: join(from, 'model.onnx'), path: join(from, 'other.onnx') })).toEqual([])
  expect(existsSync(join(from, 'other.onnx'))).toBe(false)
})
