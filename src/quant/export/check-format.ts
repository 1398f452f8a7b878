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

/** @throws E_UNSUPPORTED when DequantizeLinear needs a higher opset and a node of the model cannot be written in it. */
export function checkFormat(
  { model, blocks }: Pick<Analysis, 'model' | 'blocks'>,
  options: ResolvedOptions,
  { jobs }: EmbeddingPlan,
): void {
  if (options.format !== 'qdq') return
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
  if (opsetOf(model) < Math.max(0, ...needed)) checkOpset(model, BLOCKED_OPSET)
}
