/** @file Cases of the net: models, and the commands that are run on each. Knows options of the command line, no library name. */

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './command.js'

// Placeholders of commands: {model}, the model; {tokens}, token ids for calibration, and {windows}, enough of them to measure on;
// {overrides}, a file of overrides; {calib} and {eval}, texts of the fixture. Paths that a command writes are relative: it runs in a folder of its own.

const FIXTURE = join(ROOT, 'fixtures/tiny-llama')

/** Few samples of few tokens, one epoch: enough to run every graph, too little to learn anything. */
const LEARN = ['--calib', '{tokens}', '--samples', '2', '--seq-len', '24', '--epochs', '1']
/** Rounding only: learns nothing, reads no calibration. */
const ROUND = ['--no-lwc', '--no-let', '--seq-len', '24']

/** Products in float32, and float lm_head and embedding: most cases are not about what a target chooses. */
const PLAIN = ['--accuracy-level', '0', '--lm-head', 'float', '--embedding', 'float']

const quantize = (...flags) => ['quantize', '{model}', ...PLAIN, ...flags, '-o', 'out', '--threads', '1', '--json']
const one = (name, ...commands) => ({ name, commands })

/** For every model. */
const EVERY = [
  one('inspect', ['inspect', '{model}', '--json']),
  one('inspect-text', ['inspect', '{model}']),
  one('w4a16g32', quantize('--w4a16', '--group', '32', ...LEARN)),
  one('defaults', ['quantize', '{model}', '--w4a16', ...LEARN, '-o', 'out', '--threads', '1', '--json']),
  one('w4a4', quantize('--w4a4', ...LEARN)),
  one('round-w2a16g64-outer', quantize('--w2a16g64', '--lm-head', '4', '--embedding', '4', ...ROUND)),
  one('round-w8a8-portable', quantize('--w8a8', '--format', 'portable', ...ROUND)),
]

/** For models of every kind: see RICH. */
const RICHER = [
  one('w2a16g64', quantize('--w2a16g64', ...LEARN)),
  one('w3a16-channel', quantize('--w3a16', '--per-channel', '--symmetric', ...LEARN)),
  one('w8a8', quantize('--w8a8', ...LEARN)),
  one('w6a6-symact', quantize('--wbits', '6', '--abits', '6', '--symmetric-activations', ...LEARN)),
  one('w4a4-portable', quantize('--w4a4', '--format', 'portable', ...LEARN)),
  one('w4a16-let', quantize('--w4a16', '--let', '--alpha', '0.7', '--aug-loss', '--schedule', 'constant', ...LEARN)),
  one('w4a16-stable-spam', quantize('--w4a16', '--optimizer', 'stable-spam', '--lr', '0.02', '--seed', '3', ...LEARN)),
  one('w4a16-outer8', quantize('--w4a16', '--lm-head', '8', '--embedding', '8', ...LEARN)),
  one('w4a16-embedding2', quantize('--w4a16', '--embedding', '2', ...ROUND)),
  one('w4a16-level4', quantize('--w4a16', '--accuracy-level', '4', ...ROUND)),
  one(
    'exceptions',
    quantize('--w4a4', '--ignore', '*.0', '--override', '*.1.*k*:w8g32sym', '--overrides', '{overrides}', ...LEARN),
  ),
  one('w4a4-saved-and-replayed', quantize('--w4a4', '--save-params', 'learned.safetensors', ...LEARN), [
    'quantize',
    ...PLAIN,
    '{model}',
    '--w4a4',
    '--params',
    'learned.safetensors',
    '--seq-len',
    '24',
    '-o',
    'replayed',
    '--json',
  ]),
  one(
    'w4a16-saved-and-misused',
    quantize('--w4a16', '--let', '--save-params', 'learned.safetensors', ...LEARN),
    quantize('--w2a16', '--params', 'learned.safetensors', '--seq-len', '24'),
  ),
]

/** For one model with a tokenizer: where tokens come from, what is measured, where files go, what is refused. */
const AROUND = [
  one('text', quantize('--w4a16', '--calib', '{calib}', '--samples', '2', '--seq-len', '32', '--epochs', '2')),
  one('own-text', quantize('--w4a16', '--samples', '2', '--seq-len', '16', '--epochs', '1')),
  one('preset-fast', quantize('--w4a16', '--preset', 'fast', '--calib', '{calib}')),
  one('two-threads', ['quantize', '{model}', ...PLAIN, '--w4a4', ...LEARN, '--threads', '2', '-o', 'out', '--json']),
  one('printed', ['quantize', '{model}', '--w4a4', ...LEARN, '--threads', '1', '-o', 'named.onnx']),
  one('evaluate', ['evaluate', '{model}', '{eval}', '--windows', '3', '--threads', '1', '--json']),
  one('evaluated', quantize('--w8a8', ...LEARN, '--evaluate', '{windows}')),
  { ...one('hub-layout', ['quantize', 'hub/onnx/model.onnx', '--w4a16', ...ROUND, '--json']), copyTo: 'hub/onnx' },
  one('help', ['--help']),
  one('help-quantize', ['quantize', '--help']),
  one('refused-bits', quantize('--w9a16')),
  one('refused-option', quantize('--w4a16', '--grup', '32')),
  one('refused-pattern', quantize('--w4a16', '--ignore', 'dwon_proj', ...ROUND)),
  one('refused-length', quantize('--w4a16', '--calib', '{tokens}', '--seq-len', '100000')),
  one('refused-calibration', quantize('--w4a16', '--calib', 'missing.txt')),
  one('refused-parameters', quantize('--w4a16', '--params', '{tokens}')),
  one('refused-model', ['inspect', 'missing.onnx', '--json']),
]

/** Primitive ops, fused ops in float16, experts as nodes and inside one node, two branches, Gemm with biases, and trained models. */
const RICH = [
  /^fixture$/,
  /^zoo\/optimum-llama-past$/,
  /^zoo\/genai-llama-fp16$/,
  /^zoo\/genai-gptoss$/,
  /^zoo\/optimum-qwen3-moe$/,
  /^zoo\/optimum-merged\/decoder_model_merged$/,
  /^zoo\/optimum-bloom$/,
  /^models\/wiki-(llama\/optimum-past|llama\/genai-fp16|opt\/optimum-past)$/,
]

const MODELS = ['wiki-llama/optimum-past', 'wiki-llama/genai-fp32', 'wiki-llama/genai-fp16', 'wiki-opt/optimum-past']

/** Model files of the zoo: a folder with one, or each file of a folder with several. */
function zooOf(shared) {
  return readdirSync(join(shared, 'zoo'))
    .sort()
    .flatMap(folder => {
      const path = join(shared, 'zoo', folder)
      const files = readdirSync(path).filter(name => name.endsWith('.onnx'))
      if (files.length === 1) return [{ name: `zoo/${folder}`, model: path }]
      return files
        .sort()
        .map(file => ({ name: `zoo/${folder}/${file.replace(/\.onnx$/, '')}`, model: join(path, file) }))
    })
}

/**
 * All cases, in order.
 * @param {string} shared folder with zoo/ and models/
 * @returns {{ id: string, model: string, commands: string[][], copyTo?: string }[]} ids are "model: case".
 */
export function casesOf(shared) {
  if (!existsSync(join(shared, 'zoo'))) throw new Error(`${shared} has no folder zoo`)
  const subjects = [
    ...MODELS.map(name => ({ name: `models/${name}`, model: join(shared, 'models', name) })),
    { name: 'fixture', model: FIXTURE },
    ...zooOf(shared),
  ]
  return subjects.flatMap(({ name, model }) =>
    [...EVERY, ...(RICH.some(pattern => pattern.test(name)) ? RICHER : []), ...(model === FIXTURE ? AROUND : [])].map(
      row => ({ ...row, id: `${name}: ${row.name}`, model }),
    ),
  )
}

/** Files that commands read besides models, by placeholder: what is written there. */
export function inputsOf() {
  const sample = (seed, length) => Array.from({ length }, (_, i) => (i * 89 + seed * 31 + 7) % 251)
  const lines = length => [1, 2].map(seed => `${JSON.stringify(sample(seed, length))}\n`).join('')
  return {
    tokens: { name: 'tokens.jsonl', text: lines(24) },
    windows: { name: 'windows.jsonl', text: lines(256) },
    overrides: { name: 'overrides.json', text: '{"*": "w3", "*.1": "w5"}\n' },
  }
}

/** Files of the repository that commands read, by placeholder. */
export const TEXTS = { calib: join(FIXTURE, 'calib.txt'), eval: join(FIXTURE, 'eval.txt') }
