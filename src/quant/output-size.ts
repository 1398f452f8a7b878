/** @file Size of the output and of its quantized weights, for the estimates of `inspect` and the check of disk space. Reads nothing. */

import { sizeBytes, type Tensor } from '../graph/tensor.ts'
import type { Linear } from './find/linears.ts'
import type { EmbeddingPlan } from './plan/plan-embeddings.ts'
import { outerBytes, packedBytes } from './plan/size.ts'
import type { WeightSchemeOf } from './plan/weight-rules.ts'
import type { ExportOptions, Format } from './terms/options.ts'
import type { QuantScheme } from './terms/scheme.ts'

/**
 * Bytes of quantized weights, and of the float weights they replace. A tensor that several linears share is stored once as float and
 * once per linear as codes. It goes when all of them are quantized.
 */
export function quantizedSize(
  linears: readonly Linear[],
  scheme: QuantScheme,
  schemeOf: WeightSchemeOf,
  format?: Format,
): { readonly packed: number; readonly replaced: number } {
  const stays = new Set<Tensor>()
  const goes = new Set<Tensor>()
  let packed = 0
  for (const linear of linears) {
    const weights = schemeOf(linear)
    const tensor = linear.weight.tensor!
    if (weights) packed += packedBytes(linear, { ...scheme, weights }, format)
    ;(weights ? goes : stays).add(tensor)
  }
  const replaced = [...goes].filter(tensor => !stays.has(tensor)).reduce((sum, tensor) => sum + sizeBytes(tensor), 0)
  return { packed, replaced }
}

/** Bytes that lm_head and embeddings add to the output; below zero, because codes are smaller than what they replace. */
export function outerGrowth({ jobs, replaced }: EmbeddingPlan, options: Pick<ExportOptions, 'format'>): number {
  const packed = jobs.reduce((sum, job) => sum + outerBytes(job, options), 0)
  return Math.round(packed - replaced.reduce((sum, tensor) => sum + sizeBytes(tensor), 0))
}

/** Bytes of the output for a model of `size` bytes. Weights outside of `linears` count as they are: `outerGrowth` knows about some. */
export function outputSize(
  size: number,
  linears: readonly Linear[],
  scheme: QuantScheme,
  schemeOf: WeightSchemeOf = () => scheme.weights,
  format?: Format,
): number {
  const { packed, replaced } = quantizedSize(linears, scheme, schemeOf, format)
  return Math.round(size - replaced + packed)
}
