/**
 * @file Milliseconds of a float file and of files that were quantized from it: a prefill of 128 tokens and one token, in turns.
 *
 *     node bench/quantized-forward.js FLOAT.onnx QUANTIZED.onnx [MORE.onnx ...] [--threads N] [--rounds N]
 */

import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { feedsFor } from '../dist/decoder/feeds.js'
import { describeIo } from '../dist/decoder/model-io.js'
import { openModel } from '../dist/kernels/session.js'
import { showHelp, wrongUsage } from './help.js'

/** Each measurement takes about so long, so that short runs are not lost in the noise. */
const LEAST_MS = 200

const median = numbers => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

showHelp(import.meta.filename)
const { values, positionals: files } = parseArgs({
  allowPositionals: true,
  options: { threads: { type: 'string', default: '2' }, rounds: { type: 'string', default: '15' } },
})
if (files.length < 2) wrongUsage(import.meta.filename, 'a float file and a quantized one are needed')
const [threads, rounds] = [Number(values.threads), Number(values.rounds)]

const sessions = []
for (const file of files) sessions.push(await openModel(file, { threads }))

for (const tokens of [128, 1]) {
  const runs = sessions.map(session => {
    const io = describeIo(session)
    const feeds = feedsFor(io, new BigInt64Array(tokens).fill(5n), 1, tokens)
    return () => session.run(feeds, [io.logits.name])
  })
  for (const run of runs) await run()
  const started = performance.now()
  await runs[0]()
  const repeats = Math.max(1, Math.round(LEAST_MS / (performance.now() - started)))
  const times = files.map(() => [])
  for (let round = 0; round < rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const begun = performance.now()
      for (let j = 0; j < repeats; j++) await run()
      times[i].push((performance.now() - begun) / repeats)
    }
  }
  console.log(`${tokens} tokens, ${threads} threads: ${basename(files[0])} ${median(times[0]).toFixed(2)} ms`)
  for (let i = 1; i < files.length; i++) {
    const ratio = median(times[0].map((time, round) => time / times[i][round]))
    console.log(`  ${basename(files[i])} ${median(times[i]).toFixed(2)} ms, ${ratio.toFixed(2)} x as fast`)
  }
}
