/**
 * @file Perplexity at the rows of ../shared/golden/results.md and their neighbours, through the command a user would type.
 *
 *     node bench/accuracy.js SHARED_FOLDER [PRESET] [FILTER]
 *
 * PRESET is paper (2 to 4 minutes a row on two cores) unless given; default takes half a minute. FILTER is a part of "model flags".
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { showHelp, wrongUsage } from './help.js'

showHelp(import.meta.filename)
const [shared, preset = 'paper', filter = ''] = process.argv.slice(2)
if (!shared) wrongUsage(import.meta.filename, 'SHARED_FOLDER is missing')

/** Model, flags, and the perplexity of the reference implementation where ../shared/golden/results.md has one. */
const ROWS = [
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

/** Products in float32, and float lm_head and embedding, unless a row says otherwise: the reference has these too. */
const PLAIN = ['--accuracy-level', '0', '--lm-head', 'float', '--embedding', 'float']

function quantized(model, flags) {
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-accuracy-'))
  try {
    const golden = name => join(shared, 'golden', name)
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [
        resolve(import.meta.dirname, '../bin/omniquant.js'),
        ...['quantize', join(shared, 'models', model), ...PLAIN, ...flags, '-o', folder, '--force', '--json'],
        ...['--calib', golden('calib_ids.npy'), '--preset', preset, '--samples', '128', '--seq-len', '256'],
        ...['--evaluate', golden('eval_ids.npy')],
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
for (const [model, flags, reference] of ROWS) {
  if (!`${model} ${flags}`.includes(filter)) continue
  const learned = quantized(model, flags.split(' '))
  const rounded = quantized(model, [...flags.split(' '), '--no-lwc', '--no-let']).evaluation.perplexity
  const { perplexity, against } = learned.evaluation
  const numbers = [against.perplexity, rounded, perplexity].map(value => value.toFixed(3))
  const compared = reference ? [reference.toFixed(3), (perplexity / reference).toFixed(4)] : ['', '']
  const seconds = Math.round(learned.elapsedMs / 1000)
  console.log(`| ${model} | \`${flags}\` | ${[...numbers, ...compared, seconds].join(' | ')} |`)
}
