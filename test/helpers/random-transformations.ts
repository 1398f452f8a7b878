/** @file Files of learned parameters with random numbers: transformations that have an effect, without learning. */

import { Random } from '../../src/calibration/rng.ts'
import { elementCount, tensorOf } from '../../src/graph/tensor.ts'
import { analyze } from '../../src/quant/find/analyze.ts'
import { equivalence } from '../../src/quant/learn/equivalence.ts'
import { blockPlanner } from '../../src/quant/plan/block-planner.ts'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import { resolveOptions } from '../../src/quant/terms/resolve-options.ts'
import { noStart } from './no-start.ts'
import { saveParameters } from '../../src/quant/learn/replay.ts'

/** Writes parameters for `--params`: scales from 1/3 to 3 and shifts from -0.25 to 0.25 for every mapping of the run. */
export async function writeRandomTransformations(path: string, given: QuantizeOptions): Promise<void> {
  const options = resolveOptions(given)
  const analysis = await analyze(options.model, options.seqLen)
  const planOf = blockPlanner(options, analysis)
  const random = new Random(options.seed)
  const blocks = analysis.blocks.map(block => {
    const plan = planOf(block)
    const draw = (name: string) => (name.endsWith(':scale') ? 3 ** (2 * random.next() - 1) : (random.next() - 0.5) / 2)
    const parameters = equivalence.parameters(plan, noStart(options)).map(({ name, shape }) => ({
      name,
      tensor: tensorOf(
        'float32',
        shape,
        Float32Array.from({ length: elementCount(shape) }, () => draw(name)),
      ),
    }))
    return { parameters }
  })
  saveParameters(path, options, blocks)
}
