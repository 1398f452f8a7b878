/**
 * @file GPTQ on a block: the codes of its weights from second moments of their inputs, under the scales that training ended with. The
 * codes become rounding offsets, and travel as learned ones do.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { factorHessian, gptqCodes } from '../../kernels/gptq/gptq.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { ROUNDINGS } from '../terms/roundings.ts'
import type { LearningStart } from './learnable.ts'
import { blockParameters } from './learnables.ts'
import type { Learned } from './learned.ts'
import { inputMoments, readersOf } from './input-moments.ts'
import { weightInput } from './ports.ts'
import { offsetName } from './rounding.ts'
import { unroundedBlock } from './unrounded-block.ts'

/**
 * All parameters of the block: those of training, and where the method solves for codes, offsets that give them.
 * @param from inputs of the block in the quantized model.
 */
export async function solveRounding(
  plan: BlockPlan,
  start: LearningStart,
  trained: Learned,
  from: ActivationStore,
  onProgress?: (done: number, total: number) => void,
): Promise<Learned> {
  const { method, weights, frozen } = start
  if (ROUNDINGS[method.rounding].codes !== 'gptq') return trained
  const { session } = method
  const vector = blockParameters(plan, start)
  const parameters = new Float32Array(vector.size)
  for (const { name } of trained.vector.parameters)
    vector.view(parameters, name).set(trained.vector.view(trained.parameters, name))
  const { version, weightOf } = await unroundedBlock(plan, weights, trained, session)
  const feeds = { ...version.feeds }
  const all = [...plan.quantizers.keys()]
  const linears = all.filter(linear => !frozen.has(linear))
  const readers = readersOf(plan, linears)
  const stages = process.env['GPTQ_ONE'] ? [readers] : readers.map(group => [group])
  for (const stage of stages) {
    const run = { from, of: 'products' } as const
    const products = await inputMoments(plan, { ...version, feeds }, stage, run, session, onProgress)
    for (const [i, group] of stage.entries()) {
      const { name, inFeatures: K } = group[0]!
      const factor = await factorHessian(products[i]!, K, name, session)
      for (const linear of group) {
        method.signal?.throwIfAborted()
        const N = linear.outFeatures
        const weight = { ...(await weightOf(linear)), N, quantizer: plan.quantizers.get(linear)! }
        const { offset, quantized } = await gptqCodes(weight, factor, session)
        vector.view(parameters, offsetName(linear, all.indexOf(linear))).set(offset)
        feeds[weightInput(plan.block.linears.indexOf(linear))] = tensorOf('float32', [K, N], quantized)
      }
    }
  }
  return { vector, parameters }
}
