/** @file A process that does one job on WebGPU and prints its result: `node --import ./test/fuzz/typescript.js job.ts NAME INPUT`. */

import { Builder } from '../../src/graph/builder.ts'
import { Graph } from '../../src/graph/ir.ts'
import { readElements, tensorOf } from '../../src/graph/tensor.ts'
import type { Device } from '../../src/kernels/device.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { evaluateModel } from '../../src/quant/evaluate.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import { type EvaluateOptions } from '../../src/quant/terms/read-options.ts'
import { logitsOf, relativeError } from '../helpers/compare-logits.ts'
import { type FirstBlock, firstBlock } from './first-block.ts'

/** Input and result of each job. */
export interface Jobs {
  /** Sum of 1 to 4. */
  probe: { readonly input: Record<string, never>; readonly output: { readonly sum: number } }
  block: {
    readonly input: { readonly scheme: string; readonly steps: number; readonly device: Device }
    readonly output: FirstBlock
  }
  /** Error of WebGPU's logits as a part of their range. */
  logits: { readonly input: { readonly models: readonly string[] }; readonly output: readonly number[] }
  quantize: { readonly input: QuantizeOptions; readonly output: { readonly kept: readonly (string | undefined)[] } }
  evaluate: { readonly input: EvaluateOptions; readonly output: { readonly perplexity: number } }
}

export type JobName = keyof Jobs

const JOBS: { readonly [Name in JobName]: (input: Jobs[Name]['input']) => Promise<Jobs[Name]['output']> } = {
  async probe() {
    const g = new Builder(new Graph('probe'))
    const x = g.input('x', 'float32', [1, 4])
    g.output(g.matMul(x, g.input('ones', 'float32', [4, 1])), 'sum')
    const feeds = {
      x: tensorOf('float32', [1, 4], Float32Array.of(1, 2, 3, 4)),
      ones: tensorOf('float32', [4, 1], new Float32Array(4).fill(1)),
    }
    const { sum } = await runGraph(g.graph, feeds, { device: 'webgpu' })
    return { sum: Number(readElements(sum!)[0]) }
  },
  block: ({ scheme, steps, device }) => firstBlock(scheme, steps, { device }),
  async logits({ models }) {
    const errors: number[] = []
    for (const model of models) {
      const [expected, got] = [await logitsOf(model), await logitsOf(model, {}, { device: 'webgpu' })]
      errors.push(relativeError(expected, got))
    }
    return errors
  },
  async quantize(options) {
    const { blocks } = await quantizeModel(options)
    return { kept: blocks.map(({ kept }) => kept) }
  },
  evaluate: options => evaluateModel(options),
}

async function perform<Name extends JobName>(name: Name, input: Jobs[Name]['input']): Promise<void> {
  process.stdout.write(`RESULT ${JSON.stringify(await JOBS[name](input))}\n`)
}

const [name, input] = process.argv.slice(2)
await perform(name as JobName, JSON.parse(input!) as never)
