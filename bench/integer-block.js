/**
 * @file Milliseconds of a Llama block with quantized activations and of the same block in float, for 128 tokens and for one, in turns.
 *
 *     node bench/integer-block.js [--hidden N] [--rounds N] [SCHEME ...]
 *
 * The hidden size is 2048 and there are 15 rounds unless given; the schemes are w8a8, w6a6 and w4a4.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { newModel } from '../dist/graph/ir.js'
import { saveModel } from '../dist/graph/onnx-file/save.js'
import { floatTensor } from '../dist/graph/tensor.js'
import { openModel } from '../dist/kernels/session.js'
import { exportBlocks } from '../dist/quant/export/export-blocks.js'
import { roundBlock } from '../dist/quant/learn/round-block.js'
import { planBlock } from '../dist/quant/plan/plan-block.js'
import { parseScheme } from '../dist/quant/terms/scheme.js'
import { showHelp } from './help.js'
import { llamaGraph, noise } from './llama-block.js'

showHelp(import.meta.filename)
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { hidden: { type: 'string', default: '2048' }, rounds: { type: 'string', default: '15' } },
})
const [hidden, rounds] = [Number(flags.hidden), Number(flags.rounds)]
const schemes = positionals.length > 0 ? positionals : ['w8a8', 'w6a6', 'w4a4']
const median = numbers => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

/** Writes a file with one block: rounded to nearest as `scheme` says, or float where there is no scheme. */
async function blockFile(folder, name, tokens, scheme) {
  const { graph, block } = llamaGraph({ hidden, ffn: (hidden * 11) / 4, tokens })
  const model = newModel(graph)
  if (scheme) {
    const values = new Map(model.graph.nodes.flatMap(node => node.outputs.map(value => [value, value])))
    for (const value of model.graph.initializers) values.set(value, value)
    const method = { scheme: parseScheme(scheme), lwc: false, let: false, session: {} }
    const plan = planBlock(block, { ...method, values })
    exportBlocks(model, [roundBlock(plan, { method, blocks: 1 })], { accuracyLevel: 0 })
  }
  const path = join(folder, `${name}-${tokens}.onnx`)
  await saveModel(model, path)
  return path
}

const folder = mkdtempSync(join(tmpdir(), 'omniquant-bench-'))
try {
  console.log('| scheme | tokens | float | quantized | ratio |\n|---|---|---|---|---|')
  for (const tokens of [128, 1]) {
    const float = await openModel(await blockFile(folder, 'float', tokens), { threads: 2 })
    for (const scheme of schemes) {
      const quantized = await openModel(await blockFile(folder, scheme, tokens, scheme), { threads: 2 })
      const x = floatTensor([1, tokens, hidden], noise(tokens * hidden, 1, 7))
      const runs = [float, quantized].map(session => async () => {
        const started = performance.now()
        for (let i = 0; i < 5; i++) await session.run({ x })
        return (performance.now() - started) / 5
      })
      for (const run of runs) await run()
      const times = [[], []]
      for (let round = 0; round < rounds; round++) for (const [i, run] of runs.entries()) times[i].push(await run())
      const ratio = median(times[0].map((time, i) => time / times[1][i]))
      const [before, after] = times.map(list => `${median(list).toFixed(2)} ms`)
      console.log(`| ${scheme} | ${tokens} | ${before} | ${after} | ${ratio.toFixed(2)} x |`)
      await quantized.release()
    }
    await float.release()
  }
} finally {
  rmSync(folder, { recursive: true })
}
