/**
 * @file A Llama of any size with random weights, as an ONNX file with its weights in data files.
 *
 *     npx tsc -p fixtures/generate
 *     node bench/make-model.js OUT --hidden 2048 --ffn 5632 --heads 32 --kv-heads 8 --layers 16 --vocab 32000
 *          [--dtype float32|float16|bfloat16] [--files N] [--seed N] [--samples N] [--seq-len N]
 */

import { parseArgs } from 'node:util'
import { showHelp, wrongUsage } from './help.js'

showHelp(import.meta.filename)

const DTYPES = ['float32', 'float16', 'bfloat16']
const option = fallback => ({ type: 'string', default: String(fallback) })
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    hidden: option(2048),
    ffn: option(5632),
    heads: option(32),
    'kv-heads': option(8),
    layers: option(16),
    vocab: option(32000),
    dtype: option('float32'),
    files: option(1),
    seed: option(1),
    samples: option(16),
    'seq-len': option(256),
  },
})
const [folder] = positionals
const usage = problem => wrongUsage(import.meta.filename, problem)
const number = name => {
  const value = Number(values[name])
  return Number.isSafeInteger(value) && value > 0 ? value : usage(`--${name} ${values[name]} is not a positive number`)
}
if (positionals.length !== 1) usage('give one folder')
if (!DTYPES.includes(values.dtype)) usage(`--dtype is one of ${DTYPES.join(', ')}`)
const [hidden, heads, kvHeads] = ['hidden', 'heads', 'kv-heads'].map(number)
if (hidden % (2 * heads) !== 0) usage('--hidden must be an even multiple of --heads')
if (heads % kvHeads !== 0) usage('--heads must be a multiple of --kv-heads')

const { writeRandomModel } = await import('../out/generate/fixtures/generate/random-model.js').catch(() =>
  usage('the writer of models is not built: run `npx tsc -p fixtures/generate` once'),
)
const started = performance.now()
const model = writeRandomModel(
  folder,
  {
    vocabSize: number('vocab'),
    hiddenSize: hidden,
    layers: number('layers'),
    heads,
    kvHeads,
    headDim: hidden / heads,
    ffnSize: number('ffn'),
    maxPositions: 2048,
    normEpsilon: 1e-5,
    ropeTheta: 10000,
    // onnxruntime has no CPU kernels for bfloat16: weights are stored as bfloat16 and read as float32.
    dtype: values.dtype === 'float16' ? 'float16' : 'float32',
    weightDtype: values.dtype,
  },
  {
    seed: number('seed'),
    dataFiles: number('files'),
    calibration: { samples: number('samples'), seqLen: number('seq-len') },
  },
)
const seconds = (performance.now() - started) / 1000
const gigabytes = model.sizeBytes / 1e9
console.log(
  `${model.path}: ${gigabytes.toFixed(2)} GB of weights in ${model.dataFiles.length} files, ${seconds.toFixed(1)} s, ` +
    `${(gigabytes / seconds).toFixed(2)} GB/s, ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MB resident`,
)
