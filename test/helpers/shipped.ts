/** @file Comparison of training with shipping: learns every block of a model, exports them, and compares what both compute. */

import { join } from 'node:path'
import { ActivationStore } from '../../src/calibration/activation-store.ts'
import { feedsFor } from '../../src/decoder/feeds.ts'
import { Builder } from '../../src/graph/builder.ts'
import { Graph, Value } from '../../src/graph/ir.ts'
import { loadModel } from '../../src/graph/onnx-file/load.ts'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { staticShape } from '../../src/graph/shape.ts'
import { readElements, type Tensor, tensorOf } from '../../src/graph/tensor.ts'
import { openModel, runGraph } from '../../src/kernels/session.ts'
import { type Analysis } from '../../src/quant/find/analysis.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { learnBlock } from '../../src/quant/learn/learn-block.ts'
import { blockPlanner } from '../../src/quant/plan/block-planner.ts'
import { type FinishedBlock } from '../../src/quant/learn/finished-block.ts'
import { type Method } from '../../src/quant/terms/options.ts'
import { embed } from '../../src/quant/learn/embed.ts'
import type { ExportOptions } from '../../src/quant/terms/options.ts'
import { exportBlocks } from '../../src/quant/export/export-blocks.ts'
import { emitQuantizedBlock } from '../../src/quant/learn/emit-quantized.ts'
import { weightInput } from '../../src/quant/learn/ports.ts'
import { readWeights } from '../../src/quant/learn/block-version.ts'
import { inFloat16 } from '../../src/quant/float16/in-float16.ts'
import { methodOf } from './method.ts'
import { retype } from './retype.ts'

const SAMPLES = 4

/** ||got - expected|| / ||expected|| */
function relativeError(got: Float32Array, expected: Float32Array): number {
  const square = (values: Float32Array) => values.reduce((sum, value) => sum + value * value, 0)
  return Math.sqrt(square(got.map((value, i) => value - expected[i]!)) / square(expected))
}

/** Different tokens for every sample, below `vocabulary`. */
const ids = (i: number, count: number, vocabulary: number): BigInt64Array =>
  BigInt64Array.from({ length: count }, (_, t) => BigInt((i * 131 + t * 37 + 5) % vocabulary))

/** Fake-quant forward x -> y, as the last step of training runs it. */
async function trainedForward({ plan, learned }: FinishedBlock, input: Tensor): Promise<Float32Array> {
  const g = new Builder(new Graph('trained'))
  const x = g.input('x', 'float32', staticShape(plan.block.input))
  const weights = new Map(
    plan.block.linears.map((linear, i) => [
      linear,
      g.input(weightInput(i), 'float32', [linear.inFeatures, linear.outFeatures]),
    ]),
  )
  const size = learned?.vector.size ?? 0
  const parameters = learned?.vector.split(g, g.input('parameters', 'float32', [size]))
  g.output(emitQuantizedBlock(g, plan, x, weights, parameters), 'y')
  const feeds = learned && { parameters: tensorOf('float32', [size], learned.parameters) }
  const { y } = await runGraph(g.graph, { x: input, ...readWeights(plan.block), ...feeds })
  return readElements(y!) as Float32Array
}

/** Learns every block. Gives the finished blocks, and the last forward of each for sample 0. */
async function learnAll(analysis: Analysis, method: Method, vocabulary: number, work: string) {
  const { seqLen } = analysis
  let files = 0
  const open = () => new ActivationStore(join(work, `${files++}.f32`), SAMPLES, staticShape(analysis.blocks[0]!.input))
  let [float, quantized, nextFloat, nextQuantized] = [open(), open(), open(), open()]
  const stores = [float, quantized, nextFloat, nextQuantized]
  const tokens = BigInt64Array.from(Array.from({ length: SAMPLES }, (_, i) => [...ids(i, seqLen, vocabulary)]).flat())
  const calibration = { tokens, samples: SAMPLES, seqLen, notes: [] }
  for (const store of [float, quantized]) await embed(analysis, calibration, store)
  const planOf = blockPlanner(method, analysis)
  const finished: FinishedBlock[] = []
  const outputs: Float32Array[] = []
  for (const block of analysis.blocks) {
    const x = tensorOf('float32', staticShape(block.input), quantized.read(0, 1))
    const states = { float, quantized, nextFloat, nextQuantized }
    finished.push(await learnBlock(planOf(block), { method, blocks: analysis.blocks.length, states }))
    ;[float, nextFloat, quantized, nextQuantized] = [nextFloat, float, nextQuantized, quantized]
    outputs.push(await trainedForward(finished.at(-1)!, x))
  }
  for (const store of stores) store.close()
  return { finished, outputs }
}

export interface Shipped {
  readonly finished: readonly FinishedBlock[]
  /** Difference of each block output between the file and the training program, for one sample. */
  readonly errors: readonly number[]
}

/** An analysis, as float16 model where that is asked for. */
const found = async (path: string, tokens: number, float16: boolean): Promise<Analysis> => {
  const analysis = await analyze(path, tokens)
  return float16 ? inFloat16(analysis).analysis : analysis
}

/**
 * Learns, exports at the accuracy level of learning, and compares, in the empty folder `work`. Tokens are below `vocabulary`. With
 * `float16` the file is a float16 model, and is compared with all its float16 numbers and operators in float32.
 */
export async function shipped(
  path: string,
  work: string,
  given: Partial<Method> & Pick<Method, 'scheme'>,
  options: Partial<ExportOptions>,
  { tokens, vocabulary, float16 = false }: { tokens: number; vocabulary: number; float16?: boolean },
): Promise<Shipped> {
  const analysis = await found(path, tokens, float16)
  const method = { ...methodOf(given), ...(options.format && { format: options.format }) }
  const { finished, outputs } = await learnAll(analysis, method, vocabulary, work)
  exportBlocks(analysis.model, finished, { accuracyLevel: method.accuracyLevel, format: 'integer', ...options })
  await saveModel(analysis.model, join(work, 'plain.onnx'))

  // Block outputs are inner values of the file, so a copy has them as outputs. Where a norm with the residual inside
  // does not give its block output, it gets one more output.
  const written = loadModel(join(work, 'plain.onnx'))
  const opened = float16 ? retype(written, 'float16', 'float32') : written
  const produced = opened.graph.nodes.flatMap(node => node.outputs)
  const names = analysis.blocks.map(({ output }) => {
    const [user] = [...analysis.values].find(([value, working]) => working === output && value.producer) ?? []
    const norm = opened.graph.nodes.find(({ name }) => name === output.producer!.origin!.name)!
    const value =
      produced.find(found => found && found.name === user?.name) ?? new Value(`block_${output.name}`, 'float32')
    if (!user) norm.outputs = [norm.outputs[0], undefined, undefined, value]
    opened.graph.outputs.push(value)
    return value.name
  })
  await saveModel(opened, join(work, 'shown.onnx'))
  const session = await openModel(join(work, 'shown.onnx'), { qdqAccuracyLevel: 0 })
  const shown = await session.run(feedsFor(analysis.io, ids(0, tokens, vocabulary), 1, tokens), names)
  await session.release()
  const errors = names.map((name, i) => relativeError(readElements(shown[name]!) as Float32Array, outputs[i]!))
  return { finished, errors }
}
