/** @file Room that the output of a run will take: for its announcement, the report, and `inspect` as a dry run. Reads no weights. */

import { isFloat } from '../graph/dtype.ts'
import { type Graph, tensorsOf } from '../graph/ir.ts'
import { elementCount } from '../graph/tensor.ts'
import { option } from '../option-mark.ts'
import type { Analysis } from './find/analysis.ts'
import { weightCount } from './find/linears.ts'
import { outerGrowth, outputSize, quantizedSize } from './output-size.ts'
import type { EmbeddingPlan } from './plan/plan-embeddings.ts'
import { outerBytes, storedBits } from './plan/size.ts'
import { weightSchemeOf } from './plan/weight-rules.ts'
import type { ResolvedOptions } from './terms/options.ts'
import type { StorageReport } from './terms/report.ts'
import type { QuantScheme } from './terms/scheme.ts'

export interface Foretold {
  /** Bytes of the output, without names and nodes. */
  readonly sizeAfter: number
  readonly storage: StorageReport
}

/** Floating-point numbers that a graph stores. */
export const parametersOf = (graph: Graph): number =>
  [...tensorsOf(graph)].filter(({ dtype }) => isFloat(dtype)).reduce((sum, { dims }) => sum + elementCount(dims), 0)

/** Two digits behind the point are enough for bits. */
const rounded = (bits: number): number => Math.round(bits * 100) / 100

/** Bits for each of `parameters` in a file of `size` bytes. */
export const bitsPerParameter = (size: number, parameters: number): number =>
  parameters === 0 ? 0 : rounded((8 * size) / parameters)

/** @param size bytes of the model. */
export function foretell(
  { model, blocks }: Analysis,
  options: Pick<ResolvedOptions, 'scheme' | 'format' | 'lookup' | 'ignore' | 'overrides'>,
  outer: EmbeddingPlan,
  size: number,
): Foretold {
  const { scheme, format } = options
  const schemeOf = weightSchemeOf(scheme.weights, options)
  const linears = blocks.flatMap(block => block.linears)
  const sizeAfter = outputSize(size, linears, scheme, schemeOf, format) + outerGrowth(outer, options)
  const { packed } = quantizedSize(linears, scheme, schemeOf, format)
  const bytes = outer.jobs.reduce((sum, job) => sum + outerBytes(job, options), packed)
  const outside = outer.jobs.map(({ lmHead, embedding }) => (lmHead ?? embedding)!)
  const quantizedWeights = weightCount([...linears.filter(linear => schemeOf(linear)), ...outside])
  const parameters = parametersOf(model.graph)
  return {
    sizeAfter,
    storage: {
      bits: scheme.weights.bits,
      storedBits: storedBits(scheme, format),
      quantizedWeights,
      bitsPerQuantizedWeight: quantizedWeights === 0 ? 0 : rounded((8 * bytes) / quantizedWeights),
      parameters,
      bitsPerParameter: bitsPerParameter(sizeAfter, parameters),
    },
  }
}

/** A note where codes have fewer bits than the file has room for. */
export function storedBitsNotes({ bits, storedBits: stored }: StorageReport, { activations }: QuantScheme): string[] {
  if (bits === stored) return []
  const other = activations ? '' : ` (${option('scheme', `w${stored}a16`)})`
  return [
    `weights of ${bits} bits are stored in ${stored}: the file is as large as with weights of ${stored} bits, which are more accurate${other}`,
  ]
}
