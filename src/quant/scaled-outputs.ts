/** @file Notes about outputs whose numbers are scaled by transformations, the KV cache above all. */

import { option } from '../option-mark.ts'
import type { Analysis } from './find/analysis.ts'
import { isTransformed } from './learn/equivalence.ts'
import type { BlockPlan } from './plan/block-plan.ts'
import type { Method } from './terms/options.ts'

/** Key of metadata_props: names of scaled outputs, with commas between them. */
export const SCALED_OUTPUTS = 'omniquant.scaled_outputs'

interface Transformed {
  readonly plan: Pick<BlockPlan, 'mappings'>
  readonly parameters: readonly { readonly name: string }[]
}

/** Names of the outputs that are scaled in the file, each once. */
export function scaledOutputs(blocks: readonly Transformed[]): string[] {
  const transformed = blocks.filter(({ plan, parameters }) => isTransformed(plan, parameters))
  return [...new Set(transformed.flatMap(({ plan }) => plan.mappings.flatMap(({ outputs }) => outputs)))]
}

/** A line where the cache is for this file alone, or where it is not although nobody asked for that. */
export function scaledOutputNotes(
  method: Pick<Method, 'keepCache' | 'let'>,
  { leaving, partner }: Pick<Analysis, 'leaving' | 'partner'>,
  scaled: readonly string[],
): string[] {
  if (scaled.length > 0) {
    const [first, more] = [scaled[0]!, scaled.length - 1]
    return [
      `the KV cache is for this file alone: learning has scaled ${first}${more > 0 ? ` and ${more} more outputs` : ''}, ` +
        `so that neither the float model nor another quantization can go on from it (${option('keepCache')} leaves it as it is)`,
    ]
  }
  const isKept = leaving.values.size > 0 && leaving.mayChange.size === 0
  if (method.keepCache || !isKept || (method.let !== true && method.let !== 'affine')) return []
  const reader = partner === undefined ? 'nothing in this file reads it again' : `${partner} reads it too`
  return [`the KV cache keeps its scale: ${reader}`]
}
