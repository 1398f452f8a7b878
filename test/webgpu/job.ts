/** @file The process that does jobs on WebGPU, one after the other. vulkan.ts starts it and sends them. */

import { Builder } from '../../src/graph/builder.ts'
import { Graph } from '../../src/graph/ir.ts'
import { readElements, tensorOf } from '../../src/graph/tensor.ts'
import { runGraph } from '../../src/kernels/session.ts'
import { evaluateModel } from '../../src/quant/evaluate.ts'
import { quantizeModel } from '../../src/quant/quantize-model.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { EvaluateOptions } from '../../src/quant/terms/read-options.ts'
import { logitsOf } from '../helpers/compare-logits.ts'
import { type FirstBlock, firstBlock } from './first-block.ts'

/** Input and result of each job. All run on WebGPU. */
export interface Jobs {
  /** 1 + 2 + 3 + 4. */
  probe: { readonly input: Record<string, never>; readonly output: number }
  block: { readonly input: { readonly scheme: string; readonly steps: number }; readonly output: FirstBlock }
  logits: { readonly input: { readonly model: string }; readonly output: Float32Array }
  /** Rows of the report: learned or rounded. */
  quantize: { readonly input: QuantizeOptions; readonly output: readonly (string | undefined)[] }
  /** Perplexity. */
  evaluate: { readonly input: EvaluateOptions; readonly output: number }
}

export type JobName = keyof Jobs

export interface Answer {
  readonly output?: unknown
  /** Message of the error that ended the job. */
  readonly error?: string
}

const device = 'webgpu'

const JOBS: { readonly [Name in JobName]: (input: Jobs[Name]['input']) => Promise<Jobs[Name]['output']> } = {
  async probe() {
    const g = new Builder(new Graph('probe'))
    const x = g.input('x', 'float32', [1, 4])
    g.output(g.matMul(x, g.input('ones', 'float32', [4, 1])), 'sum')
    const feeds = {
      x: tensorOf('float32', [1, 4], Float32Array.of(1, 2, 3, 4)),
      ones: tensorOf('float32', [4, 1], new Float32Array(4).fill(1)),
    }
    const { sum } = await runGraph(g.graph, feeds, { device })
    return Number(readElements(sum!)[0])
  },
  block: ({ scheme, steps }) => firstBlock(scheme, steps, { device }),
  logits: ({ model }) => logitsOf(model, {}, { device }),
  quantize: async options => (await quantizeModel({ ...options, device })).blocks.map(({ kept }) => kept),
  evaluate: async options => (await evaluateModel({ ...options, device })).perplexity,
}

process.on('message', ({ name, input }: { name: JobName; input: never }) => {
  const answer = (message: Answer) => void process.send!(message)
  JOBS[name](input).then(
    output => answer({ output }),
    (error: unknown) => answer({ error: String(error) }),
  )
})
