/**
 * @file Quantizes a model for the scripts of this folder, and writes beside each file what onnxruntime-node makes of it.
 *
 *     node test/clients/prepare.js OUT MODEL_FOLDER [GENAI_FOLDER] [CALIBRATION.txt]
 */

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import * as ort from 'onnxruntime-node'
import { greedy } from './greedy.js'

const ROOT = resolve(import.meta.dirname, '../..')
const PROMPT = 'The city was founded in the early years of the century and'
const TOKENS = 50

const GROUPS = ['--group', '32', '--accuracy-level', '4']

/** Name of the folder -> scheme and options, and the source: plain, with a configuration that asks for a data file, or genai's. */
const CASES = [
  ['q4', ['--w4a16', ...GROUPS], 'plain'],
  ['q4-symmetric', ['--w4a16', ...GROUPS, '--symmetric'], 'plain'],
  ['q4-level0', ['--w4a16', '--group', '32'], 'plain'],
  ['q4-data', ['--w4a16', ...GROUPS], 'data'],
  ['q8', ['--w8a8'], 'plain'],
  ['int8', ['--w8a16', ...GROUPS], 'plain'],
  ['genai-q4', ['--w4a16', ...GROUPS], 'genai'],
  ['genai-q4-symmetric', ['--w4a16', ...GROUPS, '--symmetric'], 'genai'],
  ['genai-q8', ['--w8a8'], 'genai'],
]

/** A copy of the model whose configuration asks for data files, as those of large models on the Hub do. */
function askingForData(folder, out) {
  const copy = join(out, 'source-with-data')
  cpSync(folder, copy, { recursive: true })
  const path = join(copy, 'config.json')
  const config = JSON.parse(readFileSync(path, 'utf8'))
  config['transformers.js_config'] = { use_external_data_format: true }
  writeFileSync(path, JSON.stringify(config, null, 2))
  return copy
}

function promptOf(folder) {
  const json = name => JSON.parse(readFileSync(join(folder, name), 'utf8'))
  return new Tokenizer(json('tokenizer.json'), json('tokenizer_config.json')).encode(PROMPT).ids.slice(0, 32)
}

/** Channels of a head by genai_config.json; 0 for other folders, whose models say it themselves. */
function headSizeOf(folder) {
  const path = join(folder, 'genai_config.json')
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).model.decoder.head_size : 0
}

/** The .onnx file of a folder, or of its folder onnx/. */
function modelIn(folder) {
  const places = [folder, join(folder, 'onnx')].filter(existsSync)
  return places.flatMap(place => readdirSync(place).map(name => join(place, name))).find(path => path.endsWith('.onnx'))
}

function quantize(source, kind, options, target, learning) {
  const layout = kind === 'genai' ? [] : ['--layout', 'transformers.js']
  const parts = ['quantize', source, ...options, ...layout, '-o', target, ...learning, '--quiet']
  execFileSync(process.execPath, [join(ROOT, 'bin/omniquant.js'), ...parts], { stdio: 'inherit' })
}

async function prepare(out, folder, genai, calib) {
  mkdirSync(out, { recursive: true })
  const sources = { plain: folder, data: askingForData(folder, out), genai }
  const learning = ['--preset', 'fast', '--samples', '8', '--epochs', '1', ...(calib ? ['--calib', calib] : [])]
  for (const [name, options, kind] of CASES) {
    const source = sources[kind]
    if (!source) continue
    const target = join(out, name)
    // What was quantized before stays.
    if (!existsSync(target)) quantize(source, kind, options, target, learning)
    const prompt = promptOf(target)
    const session = await ort.InferenceSession.create(modelIn(target))
    const headSize = headSizeOf(target)
    const result = await greedy(ort, session, prompt, TOKENS, headSize)
    const reference = {
      onnxruntime: ort.env.versions.node,
      model: modelIn(target).slice(target.length + 1),
      prompt,
      headSize,
      ...result,
    }
    writeFileSync(join(target, 'reference.json'), JSON.stringify(reference))
    console.log(`${name}: ${reference.model}, least margin ${Math.min(...result.margins).toFixed(3)}`)
  }
}

const [out, folder, genai, calib] = process.argv.slice(2)
if (!out || !folder) throw new Error('usage: prepare.js OUT MODEL_FOLDER [GENAI_FOLDER] [CALIBRATION.txt]')
await prepare(resolve(out), folder, genai, calib)
