/**
 * @file GPTQ on a block: the codes of its weights from second moments of their inputs, under the scales that training ended with. The
 * codes become rounding offsets, and travel as learned ones do.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { type FactoredHessian, factorHessian, gptqCodes } from '../../kernels/gptq/gptq.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { ROUNDINGS } from '../terms/roundings.ts'
import type { LearningStart } from './learnable.ts'
import { blockParameters } from './learnables.ts'
import type { Learned } from './learned.ts'
import { inputMoments } from './input-moments.ts'
import { weightInput } from './ports.ts'
import { offsetName } from './rounding.ts'
import { unroundedBlock } from './unrounded-block.ts'

/** Linears that are solved from one run of the block, in the order of the graph. */
function stagesOf(linears: readonly Linear[]): Linear[][] {
  if (process.env['GPTQ_ONE']) return [[...linears]]
  const stages = new Map<unknown, Linear[]>()
  for (const linear of linears) {
    const input = linear.node.inputs[0]!
    stages.set(input, [...(stages.get(input) ?? []), linear])
  }
  return [...stages.values()]
}

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
  for (const stage of stagesOf(linears)) {
    const run = { from, of: 'products', linears: stage } as const
    const products = await inputMoments(plan, { ...version, feeds }, run, session, onProgress)
    const factors = new Map<Float32Array, FactoredHessian>()
    for (const linear of stage) {
      method.signal?.throwIfAborted()
      const { name, inFeatures: K, outFeatures: N } = linear
      const hessian = products.get(linear)!
      const factor = factors.get(hessian) ?? (await factorHessian(hessian, K, name, session))
      factors.set(hessian, factor)
      const weight = { ...(await weightOf(linear)), N, quantizer: plan.quantizers.get(linear)! }
      const { offset, quantized } = await gptqCodes(weight, factor, session)
      vector.view(parameters, offsetName(linear, all.indexOf(linear))).set(offset)
      feeds[weightInput(plan.block.linears.indexOf(linear))] = tensorOf('float32', [K, N], quantized)
    }
  }
  return { vector, parameters }
}
