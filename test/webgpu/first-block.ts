/** @file The first block of the fixture with its inputs and the outputs of the float model, ready to be run and trained. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { ActivationStore } from '../../src/calibration/activation-store.ts'
import { staticShape } from '../../src/graph/shape.ts'
import type { SessionOptions } from '../../src/kernels/session.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { floatVersion, readWeights } from '../../src/quant/learn/block-version.ts'
import { ChannelRanges } from '../../src/quant/learn/channel-ranges.ts'
import { embed } from '../../src/quant/learn/embed.ts'
import { blockParameters, observedValues } from '../../src/quant/learn/learnables.ts'
import { runBlock } from '../../src/quant/learn/run-block.ts'
import { trainBlock } from '../../src/quant/learn/train-block.ts'
import { planBlock } from '../../src/quant/plan/plan-block.ts'
import { parseScheme } from '../../src/quant/terms/scheme.ts'
import { methodOf } from '../helpers/method.ts'

export const FIXTURE: string = resolve(import.meta.dirname, '../../fixtures/tiny-llama')
const TOKENS = 32

/** Result of running and training the block on one device. */
export interface FirstBlock {
  /** Output of the float block for all samples. */
  readonly outputs: Float32Array
  /** Extremes of the channels in front of the products, for schemes with transformations. */
  readonly ranges: Float32Array
  /** Loss before each step. */
  readonly losses: Float32Array
}

/** Runs the float block over `steps` samples, and trains it with one sample a step. */
export async function firstBlock(scheme: string, steps: number, session: SessionOptions): Promise<FirstBlock> {
  const folder = mkdtempSync(join(tmpdir(), 'omniquant-webgpu-'))
  const stores: ActivationStore[] = []
  try {
    const analysis = await analyze(FIXTURE, TOKENS)
    const block = analysis.blocks[0]!
    const method = methodOf({
      ...{ scheme: parseScheme(scheme), lwc: true, epochs: 1, learningRate: 1e-2, schedule: 'constant', session },
    })
    const plan = planBlock(block, { scheme: method.scheme, let: method.let, values: analysis.values })
    const open = (name: string): ActivationStore => {
      const store = new ActivationStore(join(folder, name), steps, staticShape(block.input))
      stores.push(store)
      return store
    }
    const [x, y] = [open('x'), open('y')]
    const tokens = BigInt64Array.from({ length: steps * TOKENS }, (_, i) => BigInt((i * 37 + 5) % 300))
    await embed(analysis, { tokens, samples: steps, seqLen: TOKENS, notes: [] }, x)
    const weights = readWeights(block)
    const observed = observedValues(plan, method)
    const ranges = new ChannelRanges(observed)
    const { observers } = ranges
    await runBlock(plan, floatVersion(weights), { from: x, to: y, observers }, session)
    const vector = blockParameters(plan, { method, frozen: new Set(), ranges, weights })
    const { losses } = await trainBlock(plan, vector, { x, y }, weights, {
      ...{ epochs: 1, samples: steps, schedule: 'constant', optimizer: 'adamw', session },
    })
    return {
      outputs: y.read(0, steps),
      ranges: Float32Array.from(observed.map(value => ranges.of(value)).flatMap(({ min, max }) => [...min, ...max])),
      losses,
    }
  } finally {
    for (const store of stores) store.close()
    rmSync(folder, { recursive: true })
  }
}
