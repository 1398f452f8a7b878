/** @file Key and value caches among the inputs and outputs of a decoder: pairs that belong together, and their sizes. */

import { QuantError } from '../errors.ts'
import type { Graph } from '../graph/ir.ts'
import { type CacheBinding, type IoValue, show } from './bind-inputs.ts'
import { presentRole } from './io-roles.ts'
import type { ModelConfig } from './model-folder.ts'

/** @throws E_INPUTS where the graph shows that a cache bound by its shape is continued by another output. */
export function checkCaches(graph: Graph, caches: readonly CacheBinding[], config: ModelConfig): void {
  for (const cache of caches) {
    const present = presentOf(cache, graph.outputs, config)
    const joined = graph.outputs.find(({ name }) => name === present)?.producer
    if (joined?.opType !== 'Concat' || joined.inputs.some(input => input?.name === cache.name)) continue
    throw new QuantError(
      'E_INPUTS',
      `the names of inputs are permuted, and "${present}" does not continue "${cache.name}", which should be that cache`,
      'The exporter has mixed up names: export the model again.',
    )
  }
}

/** Pairs a cache input with the output that continues it. @throws E_INPUTS when their types contradict each other. */
export function presentOf(past: CacheBinding, outputs: readonly IoValue[], config: ModelConfig): string | undefined {
  const present = outputs.find(({ name }) => {
    const role = presentRole(name, config.names)
    return role?.layer === past.layer && role.kind === past.kind
  })
  if (present === undefined) return undefined
  const heads = present.shape?.[1]
  const contradicts =
    (present.dtype !== undefined && present.dtype !== past.dtype) ||
    (present.shape?.length || 4) !== 4 ||
    (typeof heads === 'number' && heads > 0 && past.heads !== undefined && heads !== past.heads)
  if (contradicts) {
    throw new QuantError(
      'E_INPUTS',
      `output ${show(present)} should continue input "${past.name}" (${past.dtype}, ${past.heads} heads), but cannot`,
      'The exporter has mixed up names: export the model again.',
    )
  }
  return present.name
}

export function knownSize(past: CacheBinding, what: string, size: number | undefined): number {
  if (size !== undefined) return size
  throw new QuantError(
    'E_INPUTS',
    `the ${what} of the KV cache input "${past.name}" is not known`,
    'Put genai_config.json, which has it as model.decoder.head_size, beside the model.',
  )
}
