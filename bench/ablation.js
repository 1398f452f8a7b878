/**
 * @file Perplexity on the golden tokens with one choice changed at a time, at W4A4 and W2A16: the set of transformations, the optimizer,
 * the loss, the cache, the accuracy level.
 *
 *     node bench/ablation.js SHARED_FOLDER [FILTER]
 *
 * FILTER is a part of "model scheme what". A row takes half a minute on two cores.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { evaluateModel } from '../dist/quant/evaluate.js'
import { quantizeModel } from '../dist/quant/quantize-model.js'
import { showHelp, wrongUsage } from './help.js'

showHelp(import.meta.filename)
const [shared, filter = ''] = process.argv.slice(2)
if (!shared) wrongUsage(import.meta.filename, 'SHARED_FOLDER is missing')

const without =
  (...kinds) =>
  mappings =>
    mappings.filter(({ kind }) => !kinds.includes(kind))
/** The set of the reference implementation: none between up and down. Ours are true equivalences. */
const withoutUpDown = without('up-down')
const only = kinds => mappings => mappings.filter(({ kind }) => kinds.includes(kind))
const OUTLIER = 'wiki-llama-outlier-mha/optimum-nopast'
const LLAMA = 'wiki-llama/optimum-nopast'

const ROWS = [
  [OUTLIER, 'w4a4', 'all transformations', {}],
  [OUTLIER, 'w4a4', "the reference's set (no up-down)", { selectMappings: withoutUpDown }],
  [OUTLIER, 'w4a4', 'behind norms only', { selectMappings: only(['norm']) }],
  [OUTLIER, 'w4a4', 'clipping only', { let: false }],
  [OUTLIER, 'w4a4', 'transformations only', { lwc: false }],
  [OUTLIER, 'w4a4', 'nothing learned, transformed as SmoothQuant does', { epochs: 0, lwc: false }],
  [OUTLIER, 'w4a4', 'alpha 0.75', { alpha: 0.75 }],
  [OUTLIER, 'w4a4', 'aug-loss', { augLoss: true }],
  [OUTLIER, 'w4a4', 'stable-spam', { optimizer: 'stable-spam' }],
  [LLAMA, 'w4a4', 'all transformations', {}],
  [LLAMA, 'w4a4', "the reference's set (no up-down)", { selectMappings: withoutUpDown }],
  [LLAMA, 'w4a4', 'stable-spam', { optimizer: 'stable-spam' }],
  [LLAMA, 'w4a4', 'let rate 1e-2', { letLearningRate: 1e-2 }],
  [LLAMA, 'w4a4', 'let rate 5e-2', { letLearningRate: 5e-2 }],
  [LLAMA, 'w2a16g64', 'clipping only', {}],
  [LLAMA, 'w2a16g64', 'clipping and transformations', { let: true }],
  [LLAMA, 'w2a16g64', 'stable-spam', { optimizer: 'stable-spam' }],
  ...['w4a16', 'w3a16', 'w2a16', 'w2a16g64'].flatMap(scheme => [
    [LLAMA, scheme, 'rounding: to nearest', { perChannel: scheme.includes('g') ? undefined : true }],
    ...[1e-3, 2e-3, 4e-3, 8e-3, 16e-3].map(roundingLearningRate => [
      LLAMA,
      scheme,
      `rounding: learned at ${roundingLearningRate}`,
      { rounding: 'learned', roundingLearningRate, perChannel: scheme.includes('g') ? undefined : true },
    ]),
  ]),
  ['wiki-opt/optimum-past', 'w4a4', 'all transformations', {}],
  ['wiki-opt/optimum-past', 'w4a4', 'clipping only', { let: false }],
  ...['wiki-llama-outlier', 'wiki-llama', 'wiki-opt'].flatMap(name => [
    [`${name}/optimum-past`, 'w4a4', 'cache: scaled', {}],
    [`${name}/optimum-past`, 'w4a4', 'cache: values kept', { selectMappings: without('value') }],
    [`${name}/optimum-past`, 'w4a4', 'cache: kept (--keep-cache)', { keepCache: true }],
  ]),
  // These files have no cache. They show the same choice beside the reference's figures.
  [OUTLIER, 'w4a4', 'cache: neither keys nor values scaled', { selectMappings: without('value', 'query-key') }],
  ['wiki-llama-mha/optimum-nopast', 'w4a4', 'cache: all transformations', {}],
  [
    'wiki-llama-mha/optimum-nopast',
    'w4a4',
    'cache: neither keys nor values scaled',
    { selectMappings: without('value', 'query-key') },
  ],
  ...['wiki-llama-outlier', 'wiki-llama', 'wiki-opt'].flatMap(name =>
    ['w4a16g32', 'w4a16g128', 'w2a16g64'].flatMap(scheme =>
      [
        ['level 0', {}],
        ['level 0, transformations behind norms', { let: true, selectMappings: only(['norm']) }],
        ['level 4, learned at level 0', { accuracyLevel: 4, let: false, learnedAt: 0 }],
        ['level 4, clipping only', { accuracyLevel: 4, let: false }],
        ['level 4, clipping and transformations behind norms', { accuracyLevel: 4 }],
        ['level 4, clipping and all transformations', { accuracyLevel: 4, let: true }],
      ].map(([what, options]) => [`${name}/optimum-past`, scheme, what, options]),
    ),
  ),
]

console.log('| model | scheme | what | perplexity | seconds |\n|---|---|---|---|---|')
for (const [model, scheme, what, { selectMappings, learnedAt, ...options }] of ROWS) {
  if (!`${model} ${scheme} ${what}`.includes(filter)) continue
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-ablation-'))
  try {
    const asked = {
      model: join(shared, 'models', model),
      output: folder,
      scheme,
      calib: join(shared, 'golden/calib_ids.npy'),
      ...{ accuracyLevel: 0, lmHead: 'float', embedding: 'float' },
      samples: 128,
      seqLen: 256,
      epochs: 4,
      ...options,
    }
    const params = learnedAt === undefined ? undefined : join(folder, 'learned.safetensors')
    if (params) {
      const learned = { ...asked, output: join(folder, 'learned.onnx'), accuracyLevel: learnedAt, saveParams: params }
      await quantizeModel({ ...learned, force: true }, { selectMappings })
    }
    const { output, elapsedMs } = await quantizeModel({ ...asked, params, force: true }, { selectMappings })
    const { perplexity } = await evaluateModel({
      model: output,
      text: join(shared, 'golden/eval_ids.npy'),
      seqLen: 256,
    })
    console.log(`| ${model} | ${scheme} | ${what} | ${perplexity.toFixed(3)} | ${Math.round(elapsedMs / 1000)} |`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
