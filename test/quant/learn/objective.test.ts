/** @file Looking ahead: what is learned is the error behind the next block, and the divergence of the logits. */

import { join, resolve } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { ActivationStore } from '../../../src/calibration/activation-store.ts'
import { extract } from '../../../src/graph/extract.ts'
import { staticShape } from '../../../src/graph/shape.ts'
import { readElements, tensorOf } from '../../../src/graph/tensor.ts'
import { runGraph } from '../../../src/kernels/session.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { floatVersion, readWeights } from '../../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../../src/quant/learn/channel-ranges.ts'
import { embed } from '../../../src/quant/learn/embed.ts'
import { foldBlock } from '../../../src/quant/learn/fold-block.ts'
import { blockParameters } from '../../../src/quant/learn/learnables.ts'
import { objectiveFor } from '../../../src/quant/learn/objective.ts'
import { runBlock } from '../../../src/quant/learn/run-block.ts'
import { trainBlock } from '../../../src/quant/learn/train-block.ts'
import { planBlock } from '../../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { methodOf } from '../../helpers/method.ts'
import { tempDir } from '../../helpers/temp-dir.ts'

const [SAMPLES, TOKENS] = [2, 16]
const folder = tempDir()
const analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), TOKENS)
const { blocks, values, working } = analysis
const scheme = parseScheme('w2a16g64')
const METHOD = methodOf({ scheme, lwc: true, learningRate: 5e-2 })
const plans = blocks.map(block => planBlock(block, { scheme, let: false, values }))

const stores: ActivationStore[] = []
function open(): ActivationStore {
  const store = new ActivationStore(join(folder, `${stores.length}.f32`), SAMPLES, staticShape(blocks[0]!.input))
  stores.push(store)
  return store
}
afterAll(() => stores.forEach(store => store.close()))

/** Outputs of a float block. */
async function float(index: number, from: ActivationStore): Promise<ActivationStore> {
  const to = open()
  await runBlock(plans[index]!, floatVersion(readWeights(blocks[index]!)), { from, to }, {})
  return to
}

/** Block `index` as learning starts: its inputs, the float block's outputs and its own, and a function that trains it. */
async function start(index: number) {
  const tokens = BigInt64Array.from({ length: SAMPLES * TOKENS }, (_, i) => BigInt((i * 37 + 5) % 300))
  let x = open()
  await embed(analysis, { tokens, samples: SAMPLES, seqLen: TOKENS, notes: [] }, x)
  for (let i = 0; i < index; i++) x = await float(i, x)
  const y = await float(index, x)
  const [plan, weights] = [plans[index]!, readWeights(blocks[index]!)]
  const vector = blockParameters(plan, { method: METHOD, frozen: new Set(), ranges: new ChannelRanges([]), weights })
  const outputsOf = async (parameters: Float32Array) => {
    const { version } = await foldBlock(plan, weights, { vector, parameters }, {})
    const to = open()
    await runBlock(plan, version, { from: x, to }, {})
    return to
  }
  const train = (epochs: number) =>
    trainBlock(plan, vector, { x, y }, weights, {
      epochs,
      samples: SAMPLES,
      schedule: 'constant',
      optimizer: 'adamw',
      session: {},
      objective: objectiveFor({ lookahead: true }, analysis, index),
    })
  return { y, initial: await outputsOf(vector.initial()), outputsOf, train }
}

test('the loss is the error behind the next block, and training lowers it', async () => {
  const { y, initial, outputsOf, train } = await start(0)
  const target = await float(1, y)
  /** Error of the first sample behind the next block. */
  const behind = async (outputs: ActivationStore) => {
    const [a, b] = [(await float(1, outputs)).read(0, 1), target.read(0, 1)]
    return a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0) / a.length
  }
  const before = await behind(initial)
  const { losses, parameters } = await train(30)
  expect(losses[0]! / before).toBeCloseTo(1, 3)
  expect(await behind(await outputsOf(parameters))).toBeLessThan(0.8 * before)
})

test('behind the last block it is the divergence of the logits', async () => {
  const last = blocks.length - 1
  const { y, initial, train } = await start(last)
  const { losses } = await train(1)
  const { output } = blocks[last]!
  const logitsOf = async (store: ActivationStore) => {
    const hidden = tensorOf('float32', staticShape(output), store.read(0, 1))
    const logits = (await runGraph(extract(working, [output], working.outputs), { [output.name]: hidden })).logits!
    return { values: readElements(logits) as Float32Array, width: logits.dims.at(-1)! }
  }
  const [p, q] = [await logitsOf(y), await logitsOf(initial)]
  let divergence = 0
  for (let row = 0; row < TOKENS; row++) {
    const logs = [p, q].map(({ values, width }) => {
      const part = Array.from(values.subarray(row * width, (row + 1) * width))
      const top = Math.max(...part)
      const log = top + Math.log(part.reduce((sum, x) => sum + Math.exp(x - top), 0))
      return part.map(x => x - log)
    })
    logs[0]!.forEach((log, i) => (divergence += (Math.exp(log) * (log - logs[1]![i]!)) / TOKENS))
  }
  expect(losses[0]! / divergence).toBeCloseTo(1, 3)
})

test('the last block is learned for its own output where lm_head is large, and every block without looking ahead', () => {
  const [narrow] = blocks.map(block => ({ ...block, linears: block.linears.slice(0, 1) }))
  const large = { working, blocks: [...blocks.slice(0, -1), { ...blocks.at(-1)!, linears: narrow!.linears }] }
  expect(objectiveFor({ lookahead: true }, large, blocks.length - 1)).toBeUndefined()
  expect(objectiveFor({ lookahead: true }, analysis, blocks.length - 1)?.error).toBe('divergence')
  expect(objectiveFor({ lookahead: false }, analysis, 0)).toBeUndefined()
})
