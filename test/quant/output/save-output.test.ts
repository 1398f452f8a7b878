/** @file A whole output: names that are refused before long work, names that are replaced, and what is left when it fails. */

import { execFileSync } from 'node:child_process'
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { recoverSet } from '../../../src/files/file-set.ts'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { type QuantizeOptions } from '../../../src/quant/terms/options.ts'
import { quantizeModel } from '../../../src/quant/quantize-model.ts'
import type { QuantizeEvent } from '../../../src/quant/terms/report.ts'
import { checkOutput, placeOf, saveOutput } from '../../../src/quant/output/save-output.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { toyDecoder, toyTokens } from '../../helpers/toy-decoder.ts'
import { unless } from '../../helpers/unless.ts'

let folder: string
let source: string
let out: string
beforeEach(async () => {
  folder = testFolder()
  source = join(folder, 'source/model.onnx')
  out = join(folder, 'out')
  mkdirSync(out)
  await saveModel(toyDecoder({ layers: 1 }).model, source, { externalData: true })
  writeFileSync(join(folder, 'source/tokenizer.json'), '{"of": "this"}')
  writeFileSync(join(folder, 'victim'), 'secret')
})

const EXTERNAL = { externalData: true }
const plan = () => ({ source, path: join(out, 'q.onnx') })
const contents = (path: string) =>
  readdirSync(path)
    .sort()
    .map(name => [name, readFileSync(join(path, name), 'latin1')])

function options(more: Partial<QuantizeOptions> = {}): QuantizeOptions {
  const calib = join(folder, 'calib.jsonl')
  writeFileSync(calib, toyTokens(2, 8))
  return {
    ...{ calib, model: source, output: join(out, 'q.onnx'), scheme: parseScheme('w4a16g32'), lwc: false, let: false },
    ...{ epochs: 1, samples: 2, seqLen: 7, seed: 0, learningRate: 1e-2, schedule: 'cosine', accuracyLevel: 0 },
    ...{ threads: 1, ...more },
  }
}

describe('refused before the first block', () => {
  const pipe = (path: string) => void execFileSync('mkfifo', [path])
  const linkToVictim = (path: string) => symlinkSync(join(folder, 'victim'), path)

  test.each<[string, string, (path: string) => void, RegExp]>([
    ['a pipe as the output', 'q.onnx', pipe, /q.onnx: it is a device, pipe or socket/],
    ['a pipe as the data file', 'q.onnx.data', pipe, /q.onnx.data: it is a device, pipe or socket/],
    ['a folder as the data file', 'q.onnx.data', path => void mkdirSync(path), /q.onnx.data: it is a folder/],
    ['a pipe as the parameters', 'learned', pipe, /learned: it is a device, pipe or socket/],
    ['a link as the parameters', 'learned', linkToVictim, /learned: it is a link/],
    ['a folder as the parameters', 'learned', path => void mkdirSync(path), /learned: it is a folder/],
    ['a link to the source', 'q.onnx', path => symlinkSync(source, path), /is what the model is read from/],
    [
      'another tokenizer',
      'tokenizer.json',
      path => writeFileSync(path, '{"of": "that"}'),
      /another model.*tokenizer.json/,
    ],
  ])('%s', async (_, name, prepare, message) => {
    prepare(join(out, name))
    const events: QuantizeEvent[] = []
    const running = quantizeModel(options({ saveParams: join(out, 'learned') }), {
      onEvent: event => events.push(event),
    })
    await expect(running).rejects.toThrow(
      expect.objectContaining({ code: 'E_OUTPUT', message: expect.stringMatching(message) as string }),
    )
    expect(events.map(({ type }) => type)).toEqual(['analyzed'])
    expect(readdirSync(out)).toEqual([name])
    expect(readFileSync(join(folder, 'victim'), 'utf8')).toBe('secret')
  })

  test('devices', unless(existsSync('/dev/null') ? undefined : 'no /dev/null'), () => {
    const model = loadModel(source)
    expect(() => checkOutput(model, { source, path: '/dev/null' }, {})).toThrow(/it is a device/)
    expect(() => checkOutput(model, plan(), {}, '/dev/null')).toThrow(/it is a device/)
  })

  test('parameters where the output or the source is', () => {
    const model = loadModel(source)
    for (const path of [join(out, 'q.onnx'), join(out, 'q.onnx.data')])
      expect(() => checkOutput(model, plan(), {}, path)).toThrow(/cannot hold the parameters/)
    for (const path of [source, `${source}.data`])
      expect(() => checkOutput(model, plan(), {}, path)).toThrow(/is what the model is read from/)
  })

  test('parameters where something else is read or looked for', () => {
    const model = loadModel(source)
    const calib = join(folder, 'calib.txt')
    writeFileSync(calib, 'text')
    linkSync(calib, join(folder, 'second.txt'))
    for (const path of [calib, join(folder, 'second.txt')])
      expect(() => checkOutput(model, plan(), {}, path, [calib])).toThrow(
        /cannot hold the parameters: this run reads it/,
      )
    expect(() => checkOutput(model, plan(), {}, join(out, 'tokenizer.json'))).toThrow(/clients look for another file/)
    checkOutput(model, plan(), {}, join(out, 'learned.safetensors'), [calib])
  })
})

test('planted links at every name of the output lose their names, and nothing they lead to is touched', async () => {
  const victim = join(folder, 'victim')
  const old = ['.q.onnx.tmp', '.q.onnx.data.tmp', '.tokenizer.json.tmp', '.q.onnx.data.tmp.old']
  // A small model has a data file where its configuration says so.
  writeFileSync(join(folder, 'source/config.json'), '{"transformers.js_config": {"use_external_data_format": true}}')
  for (const name of ['q.onnx', 'q.onnx.data', ...old]) symlinkSync(victim, join(out, name))
  const { files } = await quantizeModel(options())
  expect(files).toEqual([join(out, 'q.onnx'), join(out, 'q.onnx.data')])
  for (const path of [...files, join(out, 'tokenizer.json')]) expect(lstatSync(path).isFile()).toBe(true)
  expect(readdirSync(out).sort()).toEqual([...old, 'config.json', 'q.onnx', 'q.onnx.data', 'tokenizer.json'].sort())
  expect(readFileSync(victim, 'utf8')).toBe('secret')
})

test('an output replaces an older one, and a data file nobody needs is named', async () => {
  const model = loadModel(source)
  await saveOutput(model, plan(), EXTERNAL)
  const first = contents(out)
  await saveOutput(model, plan(), EXTERNAL)
  expect(contents(out)).toEqual(first)
  const { files, notes } = await saveOutput(model, plan(), { externalData: false })
  expect(files).toEqual([join(out, 'q.onnx')])
  expect(notes).toEqual([expect.stringMatching(/^q.onnx.data was there before; the output has its weights inside/)])
  expect(readdirSync(out).sort()).toEqual(['q.onnx', 'q.onnx.data', 'tokenizer.json'])
})

test('when a companion cannot be copied the old output stays as it was', async () => {
  const model = loadModel(source)
  await saveOutput(model, plan(), EXTERNAL)
  writeFileSync(join(out, 'q.onnx'), 'old')
  writeFileSync(join(out, 'tokenizer.json'), 'changed meanwhile')
  const before = contents(out)
  await expect(saveOutput(model, plan(), EXTERNAL)).rejects.toThrow(/tokenizer.json/)
  expect(contents(out)).toEqual(before)
})

test('the last check is made when all is written, and when it fails nothing has changed', async () => {
  const model = loadModel(source)
  let written: string[] = []
  const check = () => {
    written = readdirSync(out)
    throw new Error('the source has changed')
  }
  await expect(saveOutput(model, plan(), EXTERNAL, check)).rejects.toThrow('the source has changed')
  expect(written.length).toBe(3)
  expect(written.every(name => /^\.q\.onnx\.[0-9a-f]{16}\.tmp$/.test(name))).toBe(true)
  expect(readdirSync(out)).toEqual([])
})

test('what a killed run left is put right by the next one: temporary files go, the old model comes back', () => {
  const token = '0123456789abcdef'
  const params = join(folder, 'params')
  mkdirSync(params)
  const place = placeOf(plan(), {}, join(params, 'learned'))
  const old = () => {
    writeFileSync(join(out, `.q.onnx.${token}.old`), 'old model')
    writeFileSync(join(out, `.q.onnx.data.${token}.old`), 'old data')
  }
  writeFileSync(join(out, `.q.onnx.${token}.tmp`), 'half')
  writeFileSync(join(params, `.q.onnx.${token}.tmp`), 'half')
  writeFileSync(join(out, 'q.onnx.data'), 'new data')
  old()
  recoverSet(place)
  expect(contents(out)).toEqual([
    ['q.onnx', 'old model'],
    ['q.onnx.data', 'old data'],
  ])
  expect(readdirSync(params)).toEqual([])
  for (const name of ['q.onnx', 'q.onnx.data']) rmSync(join(out, name))
  writeFileSync(join(out, 'q.onnx'), 'new model')
  old()
  recoverSet(place)
  expect(contents(out)).toEqual([['q.onnx', 'new model']])
})
