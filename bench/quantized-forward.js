/**
 * @file Milliseconds of a quantized file and of the float file it was made from: a prefill of 128 tokens and one token, in turns.
 *
 *     node bench/quantized-forward.js FLOAT.onnx QUANTIZED.onnx
 */

import { feedsFor } from '../dist/decoder/feeds.js'
import { describeIo } from '../dist/decoder/model-io.js'
import { openModel } from '../dist/kernels/session.js'
import { showHelp, wrongUsage } from './help.js'

const ROUNDS = 15
const median = numbers => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]
showHelp(import.meta.filename)
const [float, quantized] = process.argv.slice(2)
if (!quantized) wrongUsage(import.meta.filename, 'two files are needed')
const sessions = [await openModel(float, { threads: 2 }), await openModel(quantized, { threads: 2 })]

for (const tokens of [128, 1]) {
  const runs = sessions.map(session => {
    const io = describeIo(session)
    const feeds = feedsFor(io, new BigInt64Array(tokens).fill(5n), 1, tokens)
    return async () => {
      const started = performance.now()
      for (let i = 0; i < 10; i++) await session.run(feeds, [io.logits.name])
      return (performance.now() - started) / 10
    }
  })
  for (const run of runs) await run()
  const times = [[], []]
  for (let round = 0; round < ROUNDS; round++) for (const [i, run] of runs.entries()) times[i].push(await run())
  const ratios = times[0].map((time, i) => time / times[1][i])
  console.log(
    `${tokens} tokens: float ${median(times[0]).toFixed(2)} ms, quantized ${median(times[1]).toFixed(2)} ms, ratio ${median(ratios).toFixed(2)}`,
  )
}
