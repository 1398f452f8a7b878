/**
 * @file A Llama block of hidden size 2048 with quantized activations against the same block in float: milliseconds for 128 tokens and
 * for one, in turns. usage: node bench/integer-block.js [--hidden N] [SCHEME ...]
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newModel } from '../dist/graph/ir.js'
import { saveModel } from '../dist/graph/onnx-file/save.js'
import { floatTensor } from '../dist/graph/tensor.js'
import { openModel } from '../dist/kernels/session.js'
import { roundBlock } from '../dist/quant/learn/round-block.js'
import { blockPlanner } from '../dist/quant/plan/block-planner.js'
import { exportBlocks } from '../dist/quant/export/export-blocks.js'
import { parseScheme } from '../dist/quant/terms/scheme.js'
import { llamaGraph, noise } from './llama-block.js'

const args = process.argv.slice(2)
const hidden = args[0] === '--hidden' ? Number(args.splice(0, 2)[1]) : 2048
const schemes = args.length > 0 ? args : ['w8a8', 'w6a6', 'w4a4']
const ROUNDS = 15
const median = numbers => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

/** A file with one block, quantized as `scheme` says; without one, as it is. */
async function blockFile(folder, name, tokens, scheme) {
  const { graph, block } = llamaGraph({ hidden, ffn: (hidden * 11) / 4, tokens })
  const model = newModel(graph)
  if (scheme) {
    const values = new Map(model.graph.nodes.flatMap(node => node.outputs.map(value => [value, value])))
    for (const value of model.graph.initializers) values.set(value, value)
    const method = {
      scheme: parseScheme(scheme),
      lwc: false,
      let: false,
      epochs: 0,
      learningRate: 1,
      schedule: 'cosine',
      session: {},
    }
    const plan = blockPlanner(method, { values })(block)
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
      for (let round = 0; round < ROUNDS; round++) for (const [i, run] of runs.entries()) times[i].push(await run())
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
