/**
 * @file Speed of the default file of each scheme on CPUs, against the float file: a prefill of 128 tokens and one token, in turns.
 *
 *     node bench/schemes.js MODEL.onnx [--schemes w4a16,w2a16] [--theirs FILE.onnx] [--threads N] [--rounds N]
 *
 * Weights are rounded to nearest: the numbers do not matter for the speed. FILE is another quantizer's, to be measured in the same run.
 */

import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { quantizeModel } from '../dist/quant/quantize-model.js'
import { showHelp, wrongUsage } from './help.js'

showHelp(import.meta.filename)
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    schemes: { type: 'string', default: 'w4a16,w3a16,w2a16,w8a16,w8a8,w6a6,w4a4' },
    theirs: { type: 'string' },
    threads: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '9' },
  },
})
const [model] = positionals
if (!model) wrongUsage(import.meta.filename, 'MODEL.onnx is missing')

const folder = mkdtempSync(join(tmpdir(), 'omniquant-schemes-'))
try {
  const files = []
  for (const scheme of values.schemes.split(',')) {
    const output = join(folder, `${scheme}.onnx`)
    const report = await quantizeModel({ model, output, scheme, lwc: false, let: false, force: true })
    console.log(
      `${scheme}: ${report.scheme}, ${(report.sizeAfter / 1e6).toFixed(0)} MB of ${(report.sizeBefore / 1e6).toFixed(0)}`,
    )
    files.push(output)
  }
  if (values.theirs) files.push(values.theirs)
  const bench = join(import.meta.dirname, 'quantized-forward.js')
  const args = [bench, model, ...files, '--threads', values.threads, '--rounds', values.rounds]
  execFileSync(process.execPath, args, { stdio: 'inherit' })
} finally {
  rmSync(folder, { recursive: true })
}
