/**
 * @file GPTQ on a block: the codes of its weights from second moments of their inputs, under the scales that training ended with. The
 * codes become rounding offsets, and travel as learned ones do.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { factorHessian, gptqCodes, gptqSession } from '../../kernels/gptq/gptq.ts'
import { withPrograms } from '../../kernels/programs.ts'
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
  await withPrograms(gptqSession(session), async programs => {
    for (const group of readersOf(plan, linears)) {
      const run = { from, of: 'products' } as const
      const [hessian] = await inputMoments(plan, { ...version, feeds }, [group], run, session, onProgress)
      const { name, inFeatures: K } = group[0]!
      const factor = await factorHessian(hessian!, K, name, programs)
      for (const linear of group) {
        method.signal?.throwIfAborted()
        const N = linear.outFeatures
        const weight = { ...(await weightOf(linear)), N, quantizer: plan.quantizers.get(linear)! }
        const { offset, quantized } = await gptqCodes(weight, factor, programs)
        vector.view(parameters, offsetName(linear, all.indexOf(linear))).set(offset)
        feeds[weightInput(plan.block.linears.indexOf(linear))] = tensorOf('float32', [K, N], quantized)
      }
    }
  })
  return { vector, parameters }
}
