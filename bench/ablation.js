/**
 * @file Perplexity with one choice changed at a time, at W4A4 and W2A16: the set of transformations, the optimizer,
 * the loss, the cache, the accuracy level.
 *
 *     node bench/ablation.js [--filter TEXT] [--samples 128] [--seq-len 256] [--epochs 4] [--shared FOLDER]
 *
 * The choices are tried on the bundled model, or with --shared on those in FOLDER/models, where a row takes half a minute on two cores.
 * TEXT is a part of "model scheme what".
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { evaluateModel } from '../dist/quant/evaluate.js'
import { quantizeModel } from '../dist/quant/quantize-model.js'
import { showHelp } from './help.js'

showHelp(import.meta.filename)
const { values } = parseArgs({
  options: {
    filter: { type: 'string', default: '' },
    samples: { type: 'string', default: '128' },
    'seq-len': { type: 'string', default: '256' },
    epochs: { type: 'string', default: '4' },
    shared: { type: 'string' },
  },
})
const { filter, shared } = values
const [samples, seqLen, epochs] = [values.samples, values['seq-len'], values.epochs].map(Number)

const without =
  (...kinds) =>
  mappings =>
    mappings.filter(({ kind }) => !kinds.includes(kind))
/** The set of the reference implementation: none between up and down. Ours are true equivalences. */
const withoutUpDown = without('up-down')
const only = kinds => mappings => mappings.filter(({ kind }) => kinds.includes(kind))
const OUTLIER = 'wiki-llama-outlier-mha/optimum-nopast'
const LLAMA = 'wiki-llama/optimum-nopast'

const SHARED = [
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

const BUNDLED = 'tiny-llama'
const bundled = name => resolve(import.meta.dirname, '../fixtures', BUNDLED, name)
const golden = name => join(shared, 'golden', name)

/** The choices that are tried on two models, once each, on the bundled one. */
const bundledRows = () => {
  const rows = SHARED.filter(([model]) => [OUTLIER, LLAMA].includes(model)).map(([, ...row]) => [BUNDLED, ...row])
  return [...new Map(rows.map(row => [`${row[1]} ${row[2]}`, row])).values()]
}

/** Rows, their models, and the texts to calibrate with and to measure on. */
const { rows, modelOf, calib, text } = shared
  ? {
      ...{ rows: SHARED, modelOf: name => join(shared, 'models', name) },
      ...{ calib: golden('calib_ids.npy'), text: golden('eval_ids.npy') },
    }
  : { rows: bundledRows(), modelOf: () => bundled('.'), calib: bundled('calib.txt'), text: bundled('eval.txt') }

console.log('| model | scheme | what | perplexity | seconds |\n|---|---|---|---|---|')
for (const [model, scheme, what, { selectMappings, learnedAt, ...options }] of rows) {
  if (!`${model} ${scheme} ${what}`.includes(filter)) continue
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-ablation-'))
  try {
    const asked = {
      model: modelOf(model),
      output: folder,
      scheme,
      calib,
      ...{ accuracyLevel: 0, lmHead: 'float', embedding: 'float' },
      ...{ samples, seqLen, epochs },
      ...options,
    }
    const params = learnedAt === undefined ? undefined : join(folder, 'learned.safetensors')
    if (params) {
      const learned = { ...asked, output: join(folder, 'learned.onnx'), accuracyLevel: learnedAt, saveParams: params }
      await quantizeModel(learned, { selectMappings })
    }
    const { output, elapsedMs } = await quantizeModel({ ...asked, params }, { selectMappings })
    const { perplexity } = await evaluateModel({
      model: output,
      text,
      seqLen,
    })
    console.log(`| ${model} | ${scheme} | ${what} | ${perplexity.toFixed(3)} | ${Math.round(elapsedMs / 1000)} |`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
