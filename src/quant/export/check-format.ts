/** @file Checks, before anything is learned, that the user's graph can take the form that is asked for. */

import { opsetOf } from '../../graph/ir.ts'
import { checkOpset } from '../../graph/passes/raise-opset.ts'
import { BLOCKED_OPSET, dequantizeOpset } from '../../kernels/pack/dequantize-linear.ts'
import type { Analysis } from '../find/analysis.ts'
import { isFused } from '../plan/fused-experts.ts'
import { scaleDtypeOf } from '../plan/plan-block.ts'
import type { EmbeddingPlan } from '../plan/plan-embeddings.ts'
import { weightSchemeOf } from '../plan/weight-rules.ts'
import type { ResolvedOptions } from '../terms/options.ts'
import { activationOpset } from './quantize-linear.ts'

/** @throws E_UNSUPPORTED when the form that is asked for needs a higher opset and a node of the model cannot be written in it. */
export function checkFormat(
  analysis: Pick<Analysis, 'model' | 'blocks'>,
  options: ResolvedOptions,
  embeddings: EmbeddingPlan,
): void {
  const { format, scheme } = options
  const weights = format === 'qdq' ? weightOpsets(analysis, options, embeddings) : []
  checkOpset(analysis.model, Math.max(activationOpset(scheme.activations, format), ...weights))
}

/** Versions of ai.onnx that DequantizeLinear needs for the weights of a run. */
function weightOpsets(
  { model, blocks }: Pick<Analysis, 'model' | 'blocks'>,
  options: ResolvedOptions,
  { jobs }: EmbeddingPlan,
): number[] {
  const schemeOf = weightSchemeOf(options.scheme.weights, options)
  const needed = blocks.flatMap(({ linears }) =>
    linears.map(linear => {
      const weights = isFused(linear) ? undefined : schemeOf(linear)
      const { inFeatures: K } = linear
      const scaleDtype = scaleDtypeOf(linear)
      return weights ? dequantizeOpset(K, { bits: weights.bits, group: weights.group ?? K, scaleDtype }) : 0
    }),
  )
  for (const { lmHead, quantizer } of jobs) if (lmHead) needed.push(dequantizeOpset(lmHead.inFeatures, quantizer))
  return opsetOf(model) < Math.max(0, ...needed) ? [BLOCKED_OPSET] : []
}
