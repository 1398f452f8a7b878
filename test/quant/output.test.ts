import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
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

test('transformers.js layout: companions come from above onnx/, and files that are there already stay', () => {
  const [from, to] = [join(folder, 'from'), join(folder, 'to')]
  mkdirSync(join(from, 'onnx'), { recursive: true })
  for (const name of ['tokenizer.json', 'config.json', 'onnx/model.onnx']) writeFileSync(join(from, name), '{}')
  const source = join(from, 'onnx/model.onnx')
  const plan = planOutput(source, to, 'w4a16g128')
  mkdirSync(join(to, 'onnx'), { recursive: true })
  expect([...copyCompanions(plan).copied].sort()).toEqual(['config.json', 'tokenizer.json'])
  expect(readdirSync(to).sort()).toEqual(['config.json', 'onnx', 'tokenizer.json'])
  expect(copyCompanions(planOutput(source, undefined, 'w4a16g128')).copied).toEqual([])
  // A single file asked for: what it needs lies beside it.
  expect([...copyCompanions(planOutput(source, join(folder, 'q.onnx'), 'w4a16g128')).copied].sort()).toEqual([
    'config.json',
    'tokenizer.json',
  ])

  writeFileSync(join(from, 'onnx/model_q4.onnx'), 'of the hub')
  expect(() => planOutput(source, undefined, 'w4a16g128')).toThrow(/model_q4.onnx is there already/)
})

test('tokenizer and configuration travel along; weights and existing files do not', () => {
  const [from, to] = [join(folder, 'from'), join(folder, 'to')]
  for (const path of [from, to]) mkdirSync(path)
  const files = ['model.onnx', 'model.onnx.data', 'tokenizer.json', 'config.json', 'chat_template.jinja']
  for (const name of files) writeFileSync(join(from, name), '{}')
  writeFileSync(join(to, 'config.json'), 'mine')
  expect([...copyCompanions({ source: join(from, 'model.onnx'), path: join(to, 'model.onnx') }).copied].sort()).toEqual(
    ['chat_template.jinja', 'tokenizer.json'],
  )
  expect(readdirSync(to).sort()).toEqual(['chat_template.jinja', 'config.json', 'tokenizer.json'])
  expect(copyCompanions({ source: join(from, 'model.onnx'), path: join(from, 'other.onnx') }).copied).toEqual([])
  expect(existsSync(join(from, 'other.onnx'))).toBe(false)
})

test.each([
  ['model.onnx', 'model.onnx'],
  ['small.onnx', 'small.onnx'],
])('genai_config.json names the file that is written: -o .../%s', (name, expected) => {
  const [from, to] = ['from', 'to'].map(child => join(folder, child))
  for (const path of [from!, to!]) mkdirSync(path)
  const config = { model: { decoder: { filename: 'model.onnx', head_size: 16 }, vision: { filename: 'vision.onnx' } } }
  writeFileSync(join(from!, 'genai_config.json'), JSON.stringify(config))
  copyCompanions({ source: join(from!, 'model.onnx'), path: join(to!, name) })
  const { model } = JSON.parse(readFileSync(join(to!, 'genai_config.json'), 'utf8')) as typeof config
  expect(model.decoder).toEqual({ filename: expected, head_size: 16 })
  expect(model.vision.filename).toBe('vision.onnx')
})

test('transformers.js: config.json says of the output how many data files it has', () => {
  const [from, to] = [join(folder, 'from'), join(folder, 'to')]
  for (const path of [from, to]) mkdirSync(join(path, 'onnx'), { recursive: true })
  const config = { model_type: 'llama', 'transformers.js_config': { use_external_data_format: { 'model.onnx': 2 } } }
  writeFileSync(join(from, 'config.json'), JSON.stringify(config))
  const plan = planOutput(join(from, 'onnx/model.onnx'), to, 'w4a16g128')
  const { copied, notes } = copyCompanions(plan, [plan.path, `${plan.path}_data`])
  expect([copied, notes]).toEqual([['config.json'], []])
  expect(JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'))).toEqual({
    model_type: 'llama',
    'transformers.js_config': { use_external_data_format: { 'model.onnx': 2, 'model_q4.onnx': true } },
  })
  // The source's own folder: its configuration is the user's.
  const beside = planOutput(join(from, 'onnx/model.onnx'), undefined, 'w4a16g128')
  expect(copyCompanions(beside, [beside.path, `${beside.path}_data`]).notes).toEqual([
    expect.stringMatching(
      /config.json was there before and is wrong about model_q4.onnx: .*use_external_data_format: true/,
    ),
  ])
  expect(copyCompanions(beside, [beside.path]).notes).toEqual([])
})

test('links to configurations are followed; what is no JSON, or nested too deep, is copied as it is', () => {
  const [from, to, elsewhere] = ['linked', 'linked-out', 'elsewhere'].map(name => join(folder, name))
  for (const path of [from!, to!, elsewhere!]) mkdirSync(path)
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
  writeFileSync(join(elsewhere!, 'blob'), '{"x": 1}')
  symlinkSync(join(elsewhere!, 'blob'), join(from!, 'tokenizer.json'))
  symlinkSync(join(elsewhere!, 'nothing'), join(from!, 'lost.json'))
  writeFileSync(join(from!, 'config.json'), 'no JSON')
  writeFileSync(join(from!, 'genai_config.json'), deep)
  const { copied, notes } = copyCompanions({ source: join(from!, 'model.onnx'), path: join(to!, 'q.onnx') })
  expect([...copied].sort()).toEqual(['config.json', 'genai_config.json', 'tokenizer.json'])
  expect([...notes].sort()).toEqual([
    'config.json is not JSON that could be read: copied as it is',
    'genai_config.json is not JSON that could be read: copied as it is',
  ])
  expect(readFileSync(join(to!, 'tokenizer.json'), 'utf8')).toBe('{"x": 1}')
  expect(readFileSync(join(to!, 'genai_config.json'), 'utf8')).toBe(deep)
})
