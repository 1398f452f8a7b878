/**
 * @file Perplexity of the float, the rounded and the learned model, through the command a user would type.
 *
 *     node bench/accuracy.js [--preset paper] [--filter TEXT] [--samples 128] [--seq-len 256] [--shared FOLDER]
 *
 * Rows are of the bundled model, or with --shared those of FOLDER/golden/results.md and their neighbours, beside the figures of the
 * reference implementation. There the preset paper takes 2 to 4 minutes a row on two cores, default half a minute. TEXT is a part of
 * "model flags".
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { showHelp } from './help.js'

showHelp(import.meta.filename)
const { values } = parseArgs({
  options: {
    preset: { type: 'string', default: 'paper' },
    filter: { type: 'string', default: '' },
    samples: { type: 'string', default: '128' },
    'seq-len': { type: 'string', default: '256' },
    shared: { type: 'string' },
  },
})
const { preset, filter, shared } = values

/** Flags for the bundled model. */
const BUNDLED = [
  ...['--w4a16 --group 32', '--w3a16 --per-channel', '--w2a16 --group 64', '--w2a16 --group 64 --symmetric'],
  ...['--w8a8', '--w6a6', '--w4a4', '--w4a16 --ignore * --lm-head 2', '--w4a16 --ignore * --embedding 2'],
  ...['--w8a8 --static-activations', '--w8a8 --static-activations --no-learn-ranges'],
].map(flags => ['tiny-llama', flags])

/** Model, flags, and the perplexity of the reference implementation where it was measured. */
const SHARED = [
  ['wiki-llama/optimum-nopast', '--w4a16 --per-channel', 29.7],
  ['wiki-llama/optimum-nopast', '--w3a16 --per-channel', 30.214],
  ['wiki-llama/optimum-nopast', '--w2a16 --per-channel', 34.123],
  ['wiki-llama/optimum-nopast', '--w2a16 --group 64', 32.151],
  ['wiki-llama/optimum-nopast', '--w2a16 --group 64 --symmetric'],
  ['wiki-llama/optimum-nopast', '--w4a16 --group 32'],
  ['wiki-llama/optimum-nopast', '--w4a16 --group 32 --symmetric'],
  ['wiki-llama/genai-fp32', '--w2a16 --group 64', 32.151],
  ['wiki-opt/optimum-past', '--w3a16 --per-channel', 54.915],
  ['wiki-llama-mha/optimum-nopast', '--w4a4', 31.53],
  ['wiki-llama-mha/optimum-nopast', '--w6a6', 29.602],
  ['wiki-llama-mha/optimum-nopast', '--w8a8'],
  ['wiki-llama-outlier-mha/optimum-nopast', '--w4a4', 31.674],
  ['wiki-llama-outlier-mha/optimum-nopast', '--w6a6'],
  ['wiki-llama-outlier-mha/optimum-nopast', '--w8a8'],
  ['wiki-llama/optimum-past', '--w4a4'],
  ['wiki-llama-outlier/optimum-past', '--w4a4'],
  ['wiki-llama/genai-fp32', '--w4a4'],
  ['wiki-opt/optimum-past', '--w4a4', 55.13],
  ['wiki-opt/optimum-past', '--w6a6'],
  ['wiki-opt/optimum-past', '--w8a8'],
  // Blocks stay float: what lm_head and embeddings cost alone.
  ['wiki-llama/optimum-past', '--w4a16 --ignore * --lm-head 4'],
  ['wiki-llama/optimum-past', '--w4a16 --ignore * --lm-head 2'],
  ['wiki-opt/optimum-past', '--w4a16 --ignore * --lm-head 4 --embedding 4'],
  ['wiki-opt/optimum-past', '--w4a16 --ignore * --lm-head 2 --embedding 2'],
  ['wiki-llama/optimum-past', '--w4a16 --ignore * --embedding 2'],
  ['wiki-llama/optimum-past', '--w4a16 --ignore * --embedding 4'],
  ['wiki-llama/optimum-past', '--w4a16 --ignore * --lm-head 4 --symmetric'],
  ['wiki-llama/optimum-past', '--w4a16 --ignore * --lm-head 8 --embedding 8'],
  ['wiki-llama/optimum-past', '--w4a16 --group 32 --lm-head 4 --embedding 4'],
  ...['wiki-llama', 'wiki-llama-outlier', 'wiki-opt'].flatMap(model => [
    [`${model}/optimum-past`, '--w8a8 --static-activations --range minmax'],
    [`${model}/optimum-past`, '--w8a8 --static-activations --range percentile'],
    [`${model}/optimum-past`, '--w8a8 --static-activations --range mse'],
    [`${model}/optimum-past`, '--w8a8 --static-activations --no-learn-ranges'],
    [`${model}/optimum-past`, '--w8a16 --static-activations'],
  ]),
]

const bundled = name => resolve(import.meta.dirname, '../fixtures/tiny-llama', name)
const golden = name => join(shared, 'golden', name)

/** Rows, their models, and the texts to calibrate with and to measure on. */
const { rows, modelOf, calib, text } = shared
  ? {
      ...{ rows: SHARED, modelOf: name => join(shared, 'models', name) },
      ...{ calib: golden('calib_ids.npy'), text: golden('eval_ids.npy') },
    }
  : { rows: BUNDLED, modelOf: () => bundled('.'), calib: bundled('calib.txt'), text: bundled('eval.txt') }

/** Products in float32, and float lm_head and embedding, unless a row says otherwise: the reference has these too. */
const PLAIN = ['--accuracy-level', '0', '--lm-head', 'float', '--embedding', 'float']

function quantized(model, flags) {
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-accuracy-'))
  try {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [
        resolve(import.meta.dirname, '../bin/omniquant.js'),
        ...['quantize', modelOf(model), ...PLAIN, ...flags, '-o', folder, '--json'],
        ...['--calib', calib, '--preset', preset, '--samples', values.samples, '--seq-len', values['seq-len']],
        ...['--evaluate', text],
      ],
      { encoding: 'utf8', maxBuffer: 1 << 26 },
    )
    if (status !== 0) throw new Error(stderr)
    return JSON.parse(stdout)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

console.log(`| model | flags | float | rounded | ${preset} | reference | ours / reference | seconds |`)
console.log('|---|---|---|---|---|---|---|---|')
for (const [model, flags, reference] of rows) {
  if (!`${model} ${flags}`.includes(filter)) continue
  const learned = quantized(model, flags.split(' '))
  const rounded = quantized(model, [...flags.split(' '), '--no-lwc', '--no-let']).evaluation.perplexity
  const { perplexity, against } = learned.evaluation
  const numbers = [against.perplexity, rounded, perplexity].map(value => value.toFixed(3))
  const compared = reference ? [reference.toFixed(3), (perplexity / reference).toFixed(4)] : ['', '']
  const seconds = Math.round(learned.elapsedMs / 1000)
  console.log(`| ${model} | \`${flags}\` | ${[...numbers, ...compared, seconds].join(' | ')} |`)
}
