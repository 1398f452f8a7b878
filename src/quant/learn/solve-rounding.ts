/**
 * @file GPTQ on a block: the codes of its weights from second moments of their inputs, under the scales that training ended with. The
 * codes become rounding offsets, and travel as learned ones do.
 */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { factorHessian, type GptqCodes, gptqCodes, gptqSession } from '../../kernels/gptq/gptq.ts'
import { withPrograms } from '../../kernels/programs.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import { ROUNDINGS } from '../terms/roundings.ts'
import { clipLogitsOf } from './clipping.ts'
import type { LearningStart } from './learnable.ts'
import { blockParameters } from './learnables.ts'
import type { Learned } from './learned.ts'
import { inputMoments, groupsOfReaders } from './input-moments.ts'
import { weightInput } from './ports.ts'
import { offsetName } from './rounding.ts'
import { unroundedBlock } from './unrounded-block.ts'

/**
 * Ranges that are tried for each output: shares of the way from those learned or searched, which are best for rounding to nearest, to the
 * whole ones. GPTQ moves weights, some of them beyond narrow ranges. From the widest on, as the first of equals stays.
 */
const WIDENINGS = [1, 0.75, 0.5, 0.25, 0]

/** Copies column n of a matrix with N columns. */
function copyColumn(from: Float32Array, to: Float32Array, n: number, N: number): void {
  for (let i = n; i < from.length; i += N) to[i] = from[i]!
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
  await withPrograms(gptqSession(session), async programs => {
    for (const group of groupsOfReaders(plan, linears)) {
      const run = { from, of: 'products' } as const
      const [hessian] = await inputMoments(plan, { ...version, feeds }, [group], run, session, onProgress)
      const { name, inFeatures: K } = group[0]!
      const factor = await factorHessian(hessian!, K, name, programs)
      for (const linear of group) {
        method.signal?.throwIfAborted()
        const N = linear.outFeatures
        const index = all.indexOf(linear)
        const logits = clipLogitsOf(trained, linear, index)
        const clips = logits.map(({ widened }) => widened(1))
        let best: GptqCodes | undefined
        for (const share of logits.length === 0 ? [1] : WIDENINGS) {
          const tried = { vector: trained.vector, parameters: Float32Array.from(trained.parameters) }
          const changed = logits.map(({ name, widened }) => {
            const wider = widened(share)
            trained.vector.view(tried.parameters, name).set(wider)
            return wider
          })
          const weight = { ...(await weightOf(linear, tried.parameters)), N, quantizer: plan.quantizers.get(linear)! }
          const codes = await gptqCodes(weight, factor, programs)
          if (best === undefined) {
            best = codes
            continue
          }
          for (let n = 0; n < N; n++) {
            if (!(codes.loss[n]! < best.loss[n]!)) continue
            best.loss[n] = codes.loss[n]!
            copyColumn(codes.offset, best.offset, n, N)
            copyColumn(codes.quantized, best.quantized, n, N)
            changed.forEach((wider, i) => copyColumn(wider, clips[i]!, n, N))
          }
        }
        const { offset, quantized } = best!
        logits.forEach(({ name }, i) => vector.view(parameters, name).set(clips[i]!))
        vector.view(parameters, offsetName(linear, index)).set(offset)
        feeds[weightInput(plan.block.linears.indexOf(linear))] = tensorOf('float32', [K, N], quantized)
      }
    }
  })
  return { vector, parameters }
}
