/** @file Number of weights of a float model, for sizes in bits per weight. Reads no weights. */

import { isFloat } from '../graph/dtype.ts'
import { type Graph, tensorsOf } from '../graph/ir.ts'
import { elementCount } from '../graph/tensor.ts'

/** Types that hold codes of quantized weights. A float model has them for masks at most. */
const CODES: ReadonlySet<string> = new Set(['int8', 'uint8', 'int4', 'uint4', 'int2', 'uint2'])

/**
 * Float numbers stored in a model. Undefined for a quantized model, whose codes do not tell how many weights they stand for: one with codes
 * in more than one byte of 64.
 */
export function floatWeights(graph: Graph): number | undefined {
  let weights = 0
  let codes = 0
  for (const { dtype, dims } of tensorsOf(graph)) {
    if (isFloat(dtype)) weights += elementCount(dims)
    else if (CODES.has(dtype)) codes += elementCount(dims)
  }
  return weights === 0 || codes * 64 > weights ? undefined : weights
}
