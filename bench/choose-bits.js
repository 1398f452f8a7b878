/**
 * @file Pareto table of chosen bits: size, divergence of the logits (mean KL of a token) and perplexity of uniform W2, W3, W4 and W8, and of
 * --max-size at the sizes of uniform W2 and W4 and between them.
 *
 *     node bench/choose-bits.js MODEL CALIB TEXT [--preset fast] [--samples 32] [--seq-len 256] [--windows N] [--threads 2] [--level 0]
 *                               [--uniform w2a16,w4a16] [--sizes 5600000,6000000] [--sensitivity FILE]
 *
 * MODEL is an .onnx file or a folder, CALIB and TEXT are texts or token ids (.npy). Bits are chosen and learned on CALIB; divergence and
 * perplexity are measured on TEXT alone (on its first N windows). lm_head and embedding stay float in all rows. --uniform and --sizes
 * (bytes) take some rows only.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { evaluationWindows, loadTokens } from '../dist/calibration/dataset.js'
import { logSumExp } from '../dist/calibration/logits.js'
import { loadTokenizer } from '../dist/calibration/tokenizer.js'
import { feedsFor } from '../dist/decoder/feeds.js'
import { describeIo } from '../dist/decoder/model-io.js'
import { loadModel } from '../dist/graph/onnx-file/load.js'
import { readFloats } from '../dist/kernels/float16.js'
import { openModel } from '../dist/kernels/session.js'
import { meanDivergence } from '../dist/quant/choose/output-divergence.js'
import { quantizeModel } from '../dist/quant/quantize-model.js'
import { showHelp, wrongUsage } from './help.js'

showHelp(import.meta.filename)
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    preset: { type: 'string', default: 'fast' },
    samples: { type: 'string', default: '32' },
    'seq-len': { type: 'string', default: '256' },
    threads: { type: 'string', default: '2' },
    level: { type: 'string', default: '0' },
    windows: { type: 'string', default: '1000000' },
    uniform: { type: 'string', default: 'w2a16,w3a16,w4a16,w8a16' },
    sizes: { type: 'string' },
    sensitivity: { type: 'string' },
  },
})
const [model, calib, text] = positionals
if (!text) wrongUsage(import.meta.filename, 'MODEL, CALIB and TEXT are needed')

const [samples, seqLen, threads] = [values.samples, values['seq-len'], values.threads].map(Number)
const folder = mkdtempSync(join(tmpdir(), 'omniquant-bits-'))
const { path: source } = loadModel(model)
const windows = evaluationWindows(loadTokens(text, () => loadTokenizer(dirname(source))).tokens, seqLen).slice(
  0,
  Number(values.windows),
)

/** A session with what feeds it. */
async function opened(path) {
  return { session: await openModel(path, { threads }), io: describeIo(loadModel(path)) }
}

async function logitsOf({ session, io }, window) {
  const outputs = await session.run(feedsFor(io, window, 1, seqLen), [io.logits.name])
  return readFloats(outputs[io.logits.name])
}

/** Sum of -log p of the tokens of a window but the first. */
function lossOf(logits, window) {
  const vocabulary = logits.length / seqLen
  let loss = 0
  for (let t = 0; t + 1 < seqLen; t++) {
    const row = t * vocabulary
    loss += logSumExp(logits, row, vocabulary) - logits[row + Number(window[t + 1])]
  }
  return loss
}

/** Divergence from the float model and perplexity of a file, window by window. */
async function measured(path) {
  const float = await opened(source)
  const quantized = await opened(path)
  let [kl, loss] = [0, 0]
  for (const window of windows) {
    const [p, q] = [await logitsOf(float, window), await logitsOf(quantized, window)]
    kl += meanDivergence(p, q, seqLen)
    loss += lossOf(q, window)
  }
  await float.session.release()
  await quantized.session.release()
  return { kl: kl / windows.length, perplexity: Math.exp(loss / (windows.length * (seqLen - 1))) }
}

/** Quantizes with these options and prints a row. @returns the size of the output. */
async function row(name, options) {
  const report = await quantizeModel({
    ...{ model, calib, samples, seqLen, threads, preset: values.preset, output: join(folder, 'q.onnx') },
    ...{ lmHead: 'float', embedding: 'float', accuracyLevel: Number(values.level), check: false, force: true },
    ...options,
  })
  const { kl, perplexity } = await measured(report.output)
  const { choice, sizeAfter, elapsedMs } = report
  const predicted = choice ? choice.predictedKl.toPrecision(3) : ''
  const numbers = [sizeAfter, kl.toPrecision(3), predicted, perplexity.toFixed(3), Math.round(elapsedMs / 1000)]
  console.log(`| ${name} | ${numbers.join(' | ')} |`)
  return sizeAfter
}

const listed = text => text.split(',').filter(part => part !== '')

/** Sizes of uniform W2 and W4, three between them, and one between W4 and W8. */
const between = ({ w2a16, w4a16, w8a16 }) => [
  ...[0, 0.25, 0.5, 0.75, 1].map(share => Math.round(w2a16 + share * (w4a16 - w2a16))),
  Math.round((w4a16 + w8a16) / 2),
]

try {
  console.log(`${source}: ${windows.length} windows of ${seqLen} tokens, ${samples} samples, preset ${values.preset}\n`)
  console.log('| bits | bytes | KL | predicted | perplexity | seconds |\n| --- | --- | --- | --- | --- | --- |')
  const bytes = {}
  for (const scheme of listed(values.uniform)) bytes[scheme] = await row(scheme, { scheme })
  const { sensitivity = join(folder, 'sensitivities.json') } = values
  const sizes = values.sizes === undefined ? between(bytes) : listed(values.sizes).map(Number)
  for (const maxSize of sizes) await row(`--max-size ${maxSize}`, { maxSize, sensitivity })
} finally {
  rmSync(folder, { recursive: true })
}
