/** @file The data file of an output: there or not, and its name. */

import { writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { loadModel } from '../../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../../src/graph/onnx-file/save.ts'
import { savingOf } from '../../../src/quant/output/data-file.ts'
import { planOutput } from '../../../src/quant/output/paths.ts'
import { testFolder } from '../../helpers/test-folder.ts'
import { toyDecoder } from '../../helpers/toy-decoder.ts'

let folder: string
beforeEach(() => {
  folder = testFolder()
})

async function source(dataFileName?: string, companions: Readonly<Record<string, string>> = {}): Promise<string> {
  const path = join(folder, 'source/model.onnx')
  const data = dataFileName === undefined ? {} : { externalData: true, dataFileName }
  await saveModel(toyDecoder({ layers: 1 }).model, path, data)
  for (const [name, text] of Object.entries(companions)) writeFileSync(join(dirname(path), name), text)
  return path
}

const config = (entry: unknown): string =>
  JSON.stringify({ 'transformers.js_config': { use_external_data_format: entry } })

const CONFIG = { 'config.json': '{}' }
const GENAI = { 'genai_config.json': '{}' }
const ASKS = { 'config.json': config(true) }

test.each<[string, string | undefined, Readonly<Record<string, string>>, string, string | undefined, boolean]>([
  ['no data file', undefined, CONFIG, 'q.onnx_data', undefined, false],
  ['no data file, genai', undefined, GENAI, 'q.onnx.data', undefined, false],
  ["optimum's", 'model.onnx_data', CONFIG, 'q.onnx_data', undefined, false],
  ["the Hub's, numbered", 'model.onnx_data_1', CONFIG, 'q.onnx_data', undefined, false],
  ["torch's", 'model.onnx.data', CONFIG, 'q.onnx.data', undefined, false],
  ["genai's", 'model.onnx.data', GENAI, 'q.onnx.data', undefined, true],
  ['a name of its own', 'weights.bin', CONFIG, 'q.onnx_data', undefined, false],
  ['asked for by config.json', 'model.onnx_data', ASKS, 'q.onnx_data', undefined, true],
  ['asked for although the source has none', undefined, ASKS, 'q.onnx_data', undefined, true],
  [
    'asked for of another file',
    undefined,
    { 'config.json': config({ 'model.onnx': 2 }) },
    'q.onnx_data',
    undefined,
    false,
  ],
  ['asked for by stem', undefined, { 'config.json': config({ model: 1 }) }, 'q.onnx_data', undefined, true],
  ['the layout of transformers.js', 'model.onnx.data', GENAI, 'model_q4.onnx_data', 'transformers.js', false],
])('%s', async (_, dataFileName, companions, name, layout, always) => {
  const path = await source(dataFileName, companions)
  const asked = join(folder, layout === undefined ? 'out/q.onnx' : 'out')
  const plan = planOutput(path, asked, 'w4a16g32', { layout: layout as 'transformers.js' | undefined })
  const saving = savingOf(loadModel(path), plan)
  expect(saving).toEqual({ externalData: always ? true : 'when-large', dataFileName: name })
  const { files } = await saveModel(loadModel(path), plan.path, saving)
  expect(files.map(file => basename(file))).toEqual(always ? [basename(plan.path), name] : [basename(plan.path)])
})
