/** @file Files that travel with the model: their contents for the output, and that no foreign file is copied or changed. */

import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { FileSet } from '../../../src/files/file-set.ts'
import { checkCompanions, writeCompanions } from '../../../src/quant/output/companion-files.ts'
import { type OutputPlan, planOutput } from '../../../src/quant/output/paths.ts'
import { testFolder } from '../../helpers/test-folder.ts'

let from: string
let to: string
beforeEach(() => {
  const folder = testFolder()
  from = join(folder, 'from')
  to = join(folder, 'to')
  for (const path of [from, to]) mkdirSync(path)
  writeFileSync(join(from, 'model.onnx'), 'a model')
})

/** The output in `to`. */
const planned = (name = 'model.onnx'): OutputPlan => ({ source: join(from, 'model.onnx'), path: join(to, name) })

function put(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
}

/** Publishes an output of one file, and what travels with it. */
function copy(plan: OutputPlan, files: readonly string[] = [plan.path]) {
  const set = new FileSet(plan.path)
  try {
    set.add(plan.path).write(Buffer.from('the output'))
    const { copied, notes } = writeCompanions(set, plan, files)
    set.publish()
    return { copied: [...copied].sort(), notes }
  } catch (error) {
    set.discard()
    throw error
  }
}

/** Moves the model of `from` to where transformers.js has it. */
function toHubLayout(): string {
  mkdirSync(join(from, 'onnx'))
  put(from, { 'onnx/model.onnx': 'a model' })
  return join(from, 'onnx/model.onnx')
}

test('tokenizer and configuration travel along; weights and hidden files do not', () => {
  const names = ['model.onnx.data', 'tokenizer.json', 'config.json', 'chat_template.jinja', '.secret', 'key.pem']
  put(from, Object.fromEntries(names.map(name => [name, `{"of": "${name}"}`])))
  checkCompanions(planned())
  expect(copy(planned()).copied).toEqual(['chat_template.jinja', 'config.json', 'tokenizer.json'])
  expect(readdirSync(to).sort()).toEqual(['chat_template.jinja', 'config.json', 'model.onnx', 'tokenizer.json'])
  expect(readFileSync(join(to, 'tokenizer.json'), 'utf8')).toBe('{"of": "tokenizer.json"}')
  expect(copy({ source: join(from, 'model.onnx'), path: join(from, 'other.onnx') }).copied).toEqual([])
})

test('a note names files that no client reads', () => {
  const unknown = [
    'a.json',
    'b.jinja',
    'c.model',
    'model.safetensors.index.json',
    'ort_config.json',
    'quantize_config.json',
  ]
  put(
    from,
    Object.fromEntries(
      [...unknown, 'README.md', 'calib.txt', 'tokenizer.json', 'qwen.tiktoken'].map(name => [name, '{}']),
    ),
  )
  expect(copy(planned())).toEqual({
    copied: ['qwen.tiktoken', 'tokenizer.json'],
    notes: [
      'not copied, because no client is known to read them beside an ONNX file: a.json, b.jinja, c.model, model.safetensors.index.json, ort_config.json and 1 more',
    ],
  })
})

test('files of more than one piece are copied and compared to their end', () => {
  const text = 'x'.repeat(2 ** 20 + 5)
  put(from, { 'tokenizer.json': text, 'vocab.txt': 'y'.repeat(2 ** 20), 'merges.txt': '' })
  expect(copy(planned()).copied).toEqual(['merges.txt', 'tokenizer.json', 'vocab.txt'])
  expect(readFileSync(join(to, 'tokenizer.json'), 'utf8')).toBe(text)
  expect(copy(planned('again.onnx')).copied).toEqual([])
  put(to, { 'tokenizer.json': `${text.slice(1)}y` })
  expect(() => checkCompanions(planned())).toThrow(/another model, or changed ones,.*: tokenizer.json/)
})

test('transformers.js: companions come from above onnx/, and the same ones stay', () => {
  const source = toHubLayout()
  put(from, { 'tokenizer.json': '{}', 'config.json': '{}' })
  const plan = planOutput(source, to, 'w4a16g128')
  expect(copy(plan).copied).toEqual(['config.json', 'tokenizer.json'])
  expect(readdirSync(to).sort()).toEqual(['config.json', 'onnx', 'tokenizer.json'])
  expect(copy(planOutput(source, to, 'w2a16g128'))).toEqual({ copied: [], notes: [] })
  expect(copy(planOutput(source, undefined, 'w4a16g128')).copied).toEqual([])
  // A single file asked for: what it needs lies beside it.
  expect(copy(planOutput(source, join(dirname(to), 'q.onnx'), 'w4a16g128')).copied).toEqual([
    'config.json',
    'tokenizer.json',
  ])
})

describe('a tokenizer or configuration of another model', () => {
  beforeEach(() => put(from, { 'tokenizer.json': '{"of": "this"}', 'config.json': '{"size": 1}', 'vocab.txt': 'same' }))

  test.each<[string, () => void, RegExp]>([
    ['another configuration', () => put(to, { 'config.json': '{"size": 2}' }), /go: config.json$/],
    [
      'another tokenizer of the same length',
      () => put(to, { 'tokenizer.json': '{"of": "that"}' }),
      /go: tokenizer.json$/,
    ],
    [
      'both',
      () => put(to, { 'config.json': 'no JSON', 'tokenizer.json': '', 'vocab.txt': 'same' }),
      /go: config.json, tokenizer.json$/,
    ],
    ['a folder of that name', () => mkdirSync(join(to, 'config.json')), /go: config.json$/],
    [
      'a link that leads nowhere',
      () => symlinkSync(join(to, '../planted'), join(to, 'config.json')),
      /go: config.json$/,
    ],
    [
      'more than five',
      () => {
        const names = Array.from({ length: 7 }, (_, i) => `${i}.tiktoken`)
        put(from, Object.fromEntries(names.map(name => [name, 'ours'])))
        put(to, Object.fromEntries(names.map(name => [name, 'theirs'])))
      },
      /go: .* and 2 more$/,
    ],
  ])('%s is refused, and nothing is written', (_, prepare, message) => {
    prepare()
    const before = readdirSync(to)
    const refusal = expect.objectContaining({
      code: 'E_OUTPUT',
      message: expect.stringMatching(message) as string,
      hint: 'Choose an empty folder with -o, or move these files away.',
    })
    expect(() => checkCompanions(planned())).toThrow(refusal)
    expect(() => copy(planned())).toThrow(refusal)
    expect(readdirSync(to)).toEqual(before)
    expect(readdirSync(dirname(to)).sort()).toEqual(['from', 'to'])
  })

  test('the same one, also by a link, is left alone', () => {
    symlinkSync(join(from, 'config.json'), join(to, 'config.json'))
    put(to, { 'tokenizer.json': '{"of": "this"}' })
    expect(copy(planned())).toEqual({ copied: ['vocab.txt'], notes: [] })
  })
})

describe('genai_config.json', () => {
  const config = { model: { decoder: { filename: 'model.onnx', head_size: 16 }, vision: { filename: 'vision.onnx' } } }
  beforeEach(() => put(from, { 'genai_config.json': JSON.stringify(config) }))

  test.each(['model.onnx', 'small.onnx'])('names the file that is written: -o .../%s', name => {
    copy(planned(name))
    const { model } = JSON.parse(readFileSync(join(to, 'genai_config.json'), 'utf8')) as typeof config
    expect(model.decoder).toEqual({ filename: name, head_size: 16 })
    expect(model.vision.filename).toBe('vision.onnx')
  })

  test('of an output beside stays, and a note says what to change', () => {
    copy(planned('small.onnx'))
    const before = readFileSync(join(to, 'genai_config.json'), 'utf8')
    expect(copy(planned('smaller.onnx'))).toEqual({
      copied: [],
      notes: [
        `${join(to, 'genai_config.json')} was there before and is wrong about smaller.onnx: give it "filename": "smaller.onnx"`,
      ],
    })
    expect(readFileSync(join(to, 'genai_config.json'), 'utf8')).toBe(before)
    expect(copy(planned('small.onnx')).notes).toEqual([])
  })
})

test('transformers.js: config.json says of the output how many data files it has', () => {
  const source = toHubLayout()
  const config = { model_type: 'llama', 'transformers.js_config': { use_external_data_format: { 'model.onnx': 2 } } }
  put(from, { 'config.json': JSON.stringify(config) })
  const plan = planOutput(source, to, 'w4a16g128')
  expect(copy(plan, [plan.path, `${plan.path}_data`])).toEqual({ copied: ['config.json'], notes: [] })
  expect(JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'))).toEqual({
    model_type: 'llama',
    'transformers.js_config': { use_external_data_format: { 'model.onnx': 2, 'model_q4.onnx': true } },
  })
  // An earlier output's, and the source's own folder: what is there is the user's.
  for (const [asked, scheme, name] of [
    [to, 'w2a16g128', 'model_q2.onnx'],
    [undefined, 'w4a16g128', 'model_q4.onnx'],
  ] as const) {
    const beside = planOutput(source, asked, scheme)
    checkCompanions(beside)
    expect(copy(beside, [beside.path, `${beside.path}_data`]).notes).toEqual([
      expect.stringMatching(
        `config.json was there before and is wrong about onnx/${name}: load it with use_external_data_format: true`,
      ),
    ])
    expect(copy(beside, [beside.path]).notes).toEqual([])
  }
})

test('what is no JSON, or nested too deep, is copied as it is', () => {
  const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
  put(from, { 'config.json': 'no JSON', 'genai_config.json': deep })
  const { copied, notes } = copy(planned('q.onnx'))
  expect(copied).toEqual(['config.json', 'genai_config.json'])
  expect([...notes].sort()).toEqual([
    'config.json is not JSON that could be read: copied as it is',
    'genai_config.json is not JSON that could be read: copied as it is',
  ])
  expect(readFileSync(join(to, 'genai_config.json'), 'utf8')).toBe(deep)
  expect(copy(planned('q.onnx')).copied).toEqual([])
})

describe('links among the companions', () => {
  test('within the folder they are followed; those that lead nowhere, and folders, are passed over', () => {
    mkdirSync(join(from, 'files'))
    mkdirSync(join(from, 'folder.json'))
    put(from, { 'files/tokenizer': '{"x": 1}' })
    symlinkSync('files/tokenizer', join(from, 'tokenizer.json'))
    symlinkSync('nothing', join(from, 'lost.json'))
    expect(copy(planned())).toEqual({ copied: ['tokenizer.json'], notes: [] })
    expect(readFileSync(join(to, 'tokenizer.json'), 'utf8')).toBe('{"x": 1}')
  })

  test('out of the folder they are not: a note says so', () => {
    const secret = join(from, '../secret')
    writeFileSync(secret, 'a key')
    mkdirSync(join(from, '../blobs'))
    writeFileSync(join(from, '../blobs/b'), 'a blob of nobody')
    symlinkSync(secret, join(from, 'added_tokens.json'))
    symlinkSync('../blobs/b', join(from, 'vocab.txt'))
    put(from, { 'config.json': '{}' })
    const { copied, notes } = copy(planned())
    expect(copied).toEqual(['config.json'])
    expect(notes).toEqual([
      expect.stringMatching(
        /^added_tokens.json is a link that leads out of the folder of the model, to .*\/secret: it was not copied$/,
      ),
      expect.stringMatching(/^vocab.txt is a link/),
    ])
    expect(readdirSync(to).sort()).toEqual(['config.json', 'model.onnx'])
  })

  test.each([true, false])(
    "the cache of Hugging Face is the model's own folder (model is a link as well: %s)",
    linked => {
      const cache = join(testFolder(), 'models--org--name')
      from = join(cache, 'snapshots/0123abcd')
      for (const path of ['blobs', 'snapshots/0123abcd']) mkdirSync(join(cache, path), { recursive: true })
      put(join(cache, 'blobs'), { a: 'a model', b: '{"x": 1}' })
      if (linked) symlinkSync('../../blobs/a', join(from, 'model.onnx'))
      else put(from, { 'model.onnx': 'a model' })
      symlinkSync('../../blobs/b', join(from, 'tokenizer.json'))
      writeFileSync(join(cache, 'secret'), 'a key')
      symlinkSync('../../secret', join(from, 'added_tokens.json'))
      const { copied, notes } = copy(planned())
      expect(copied).toEqual(['tokenizer.json'])
      expect(notes).toEqual([expect.stringContaining('added_tokens.json is a link')])
      expect(readFileSync(join(to, 'tokenizer.json'), 'utf8')).toBe('{"x": 1}')
    },
  )
})

test('a file that appears while the output is written is not replaced', () => {
  put(from, { 'config.json': '{}' })
  const plan = planned()
  const set = new FileSet(plan.path)
  set.add(plan.path)
  writeCompanions(set, plan, [plan.path])
  put(to, { 'config.json': 'of another run' })
  expect(() => set.publish()).toThrow(/config.json has appeared/)
  set.discard()
  expect(readdirSync(to)).toEqual(['config.json'])
  expect(readFileSync(join(to, 'config.json'), 'utf8')).toBe('of another run')
})
