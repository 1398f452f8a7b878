/** @file Files of learned parameters that were drawn at random: transformations that do something, without learning. */

import { Random } from '../../src/calibration/rng.ts'
import { tensorOf } from '../../src/graph/tensor.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { BlockJob } from '../../src/quant/learn/block-job.ts'
import { equivalenceParameters } from '../../src/quant/learn/equivalence.ts'
import { type QuantizeOptions, resolveOptions } from '../../src/quant/terms/options.ts'
import { saveParameters } from '../../src/quant/learn/replay.ts'

/** Writes parameters for `--params`: scales from 1/3 to 3 and shifts from -0.25 to 0.25 for every mapping of the run. */
export async function writeRandomTransformations(path: string, given: QuantizeOptions): Promise<void> {
  const options = resolveOptions(given)
  const analysis = await analyze(options.model, options.seqLen)
  const job = new BlockJob(options, analysis.blocks.length, analysis)
  const random = new Random(options.seed)
  const blocks = analysis.blocks.map(block => {
    const plan = job.plan(block)
    const initial = plan.mappings.map(({ size }) => ({
      scale: Float32Array.from({ length: size }, () => 3 ** (2 * random.next() - 1)),
      shift: Float32Array.from({ length: size }, () => (random.next() - 0.5) / 2),
    }))
    const parameters = equivalenceParameters(plan, initial, 0).map(({ name, shape, initial: start }) => ({
      name,
      tensor: tensorOf('float32', shape, start as Float32Array),
    }))
    return { parameters }
  })
  saveParameters(path, options, blocks)
}
