/** @file Learns the clipping of lm_head and embeddings: against the float logits on what comes out of the quantized blocks. */

import type { ActivationStore } from '../../calibration/activation-store.ts'
import { extract } from '../../graph/extract.ts'
import { staticShape } from '../../graph/shape.ts'
import { elementCount, type Tensor, tensorOf } from '../../graph/tensor.ts'
import { readFloats } from '../../kernels/float16.ts'
import { groupsOf } from '../../kernels/qparams.ts'
import { compile } from '../../kernels/session.ts'
import type { Analysis } from '../find/analysis.ts'
import type { Linear } from '../find/linears.ts'
import { type EmbeddingJob, storedWeightOf } from '../plan/plan-embeddings.ts'
import type { Method } from '../terms/options.ts'
import type { OuterLearning } from '../terms/report.ts'
import { gramProgram } from './clip-programs.ts'
import { searchClip, UNWEIGHTED, type Weights } from './clip-search.ts'

/** Clip ratios of a weight, float32 [groups, N]. */
export interface StoredClip {
  readonly max: Tensor
  readonly min: Tensor
}

/** Result of learning a weight outside the blocks, as a record of the work folder. */
export interface LearnedOuter {
  /** Undefined: the weight is rounded to nearest. */
  readonly clip?: StoredClip | undefined
  readonly learning: OuterLearning
}

/** A weight outside the blocks that is finished. */
export interface FinishedOuter extends EmbeddingJob, LearnedOuter {}

/**
 * Share of the weight's own error in the objective: few tokens do not say what every input is worth, and a table that is lm_head too is
 * also read at the other end of the model.
 */
const DAMPING = 0.1

/**
 * True when clip ratios are learned for the weight. With 8 bits there is nothing to win, and with 4 nothing in a table
 * (docs/accuracy.md).
 */
export const isLearned = (
  { quantizer: { bits }, lmHead }: EmbeddingJob,
  { lwc, epochs }: Pick<Method, 'lwc' | 'epochs'>,
): boolean => lwc && epochs > 0 && bits <= (lmHead ? 4 : 2)

/** Dimensions of a weight's clip ratios, [groups, vocabulary]. */
export function clipShape({ quantizer, lmHead, embedding }: EmbeddingJob): readonly [number, number] {
  const { inFeatures, outFeatures } = (lmHead ?? embedding)!
  return [groupsOf(inFeatures, quantizer.group).count, outFeatures]
}

export interface OuterContext {
  readonly method: Method
  readonly analysis: Pick<Analysis, 'working' | 'blocks'>
  /** Hidden states after the last block of the quantized model. */
  readonly states: ActivationStore
}

/**
 * Clip ratios for one weight outside the blocks. lm_head's are chosen for the error of the logits on the calibration tokens; a table's
 * for its own error.
 * @throws E_UNSUPPORTED when a weight is no sound number; the reason of an abort.
 */
export async function learnOuter(job: EmbeddingJob, context: OuterContext): Promise<LearnedOuter> {
  const { quantizer, lmHead, embedding } = job
  const { onEvent, signal, session } = context.method
  const { name } = (lmHead ?? embedding)!
  const progress = (phase: 'inputs' | 'clipping') => (done: number, total: number) => {
    signal?.throwIfAborted()
    onEvent?.({ type: 'outer', name, phase, done, total })
  }
  const weights: Weights = lmHead
    ? { by: 'gram', numbers: await gramOf(lmHead, context, progress('inputs')) }
    : UNWEIGHTED
  const search = { session, onProgress: progress('clipping') }
  const { clip, roundedLoss, learnedLoss } = await searchClip(storedWeightOf(job), quantizer, weights, search)
  const shape = clipShape(job)
  return {
    clip: { max: tensorOf('float32', shape, clip.max), min: tensorOf('float32', shape, clip.min) },
    learning: { roundedLoss, learnedLoss },
  }
}

/**
 * Mean of x x^T over the inputs x of lm_head, [K, K], damped. Only the hidden states of one run and the matrix are in memory.
 */
async function gramOf(
  { node, inFeatures: K }: Linear,
  { analysis: { working, blocks }, states, method: { session } }: OuterContext,
  progress: (done: number, total: number) => void,
): Promise<Float32Array> {
  const last = blocks.at(-1)!.output
  const input = node.inputs[0]!
  const tokens = elementCount(staticShape(input)) / K
  const norm =
    input === last
      ? undefined
      : await compile(extract(working, [last], [input]), { ...session, optimization: 'disabled' })
  try {
    const sum = await compile(gramProgram(tokens, K), session)
    try {
      let gram = tensorOf('float32', [K, K], new Float32Array(K * K))
      for (let i = 0; i < states.samples; i++) {
        const hidden = tensorOf('float32', staticShape(last), states.read(i, 1))
        const x = norm ? (await norm.run({ [last.name]: hidden }))[input.name]! : hidden
        gram = (await sum.run({ x: tensorOf('float32', [tokens, K], readFloats(x)), gram }))['more']!
        progress(i + 1, states.samples)
      }
      return damped(readFloats(gram), K, tokens * states.samples)
    } finally {
      await sum.release()
    }
  } finally {
    await norm?.release()
  }
}

/** sum / count, with DAMPING times the mean of its diagonal added to that, in place. */
function damped(sum: Float32Array, K: number, count: number): Float32Array {
  let trace = 0
  for (let i = 0; i < K; i++) trace += sum[i * (K + 1)]! / count
  for (let i = 0; i < sum.length; i++) sum[i]! /= count
  for (let i = 0; i < K; i++) sum[i * (K + 1)]! += (DAMPING * trace) / K
  return sum
}
