/** @file Weights that a file stores and does not use, as broken exports do. Reads headers only. */

import { describeIo } from '../../decoder/model-io.ts'
import { QuantError } from '../../errors.ts'
import { type DType, isFloat } from '../../graph/dtype.ts'
import type { Model, Value } from '../../graph/ir.ts'
import { unreachableInitializers } from '../../graph/reachable.ts'
import { elementCount, sizeBytes } from '../../graph/tensor.ts'

/** A stored weight that no path leads from to the logits. */
export interface UnusedWeight {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly sizeBytes: number
}

/** Floating-point weights that no path leads from to the logits; none where nothing says which output the logits are. */
export function unusedWeights(model: Model): UnusedWeight[] {
  let logits: Value | undefined
  try {
    const { name } = describeIo(model).logits
    logits = model.graph.outputs.find(output => output.name === name)
  } catch (error) {
    if (!(error instanceof QuantError)) throw error
  }
  if (!logits) return []
  // A single number is a setting, no weight.
  return unreachableInitializers(model.graph, [logits]).flatMap(({ name, tensor }) =>
    tensor && isFloat(tensor.dtype) && elementCount(tensor.dims) > 1
      ? [{ name, dtype: tensor.dtype, shape: tensor.dims, sizeBytes: sizeBytes(tensor) }]
      : [],
  )
}
