/** @file Replaces gains and biases of the user's graph by transformed ones, each for one reader. */

import { internalError, QuantError } from '../../errors.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import { GraphWriter } from '../../graph/graph-writer.ts'
import type { Model, Node, Value } from '../../graph/ir.ts'
import { storedTensor } from '../../graph/stored-weight.ts'
import { elementCount, type Tensor } from '../../graph/tensor.ts'
import { FLOAT16_MAX, storeFloats } from '../../kernels/float16.ts'

export interface ReplacedConstant {
  /** Node of the user's graph. */
  readonly node: Node
  /** Index of the input that gets the data. */
  readonly input: number
  /** As many numbers as the constant has now. */
  readonly data: Float32Array
  /** Reader of the same constant in another branch; both get the new one. */
  readonly otherBranch?: { readonly node: Node; readonly input: number } | undefined
}

/**
 * Gives inputs of nodes new constants of the same type and shape, in place. Other readers keep the old constant; it is dropped when
 * none is left.
 * @throws E_UNSUPPORTED for numbers that float16 cannot hold.
 */
export function replaceConstants(model: Model, constants: readonly ReplacedConstant[]): void {
  const writer = new GraphWriter(model)
  for (const { node, input, data, otherBranch } of constants) {
    const value = node.inputs[input]
    const dims = value && dimsOf(value)
    if (!dims || elementCount(dims) !== data.length)
      throw internalError(
        `${data.length} numbers do not replace input ${input} of "${node.name}" [${dims ?? 'unknown'}]`,
      )
    const constant = writer.constant(`${value.name}_transformed`, tensorLike(value, dims, data))
    for (const place of [{ node, input }, ...(otherBranch ? [otherBranch] : [])])
      place.node.inputs[place.input] = constant
  }
  writer.dropOrphans()
}

/** Shape of a constant: of the stored tensor, perhaps behind a Cast, or as declared in the file. */
function dimsOf(value: Value): readonly number[] | undefined {
  const stored = storedTensor(value)
  if (stored) return stored.dims
  const { producer, shape } = value
  if (producer?.kind === 'Cast' || producer?.kind === 'Identity') return dimsOf(producer.inputs[0]!)
  return shape?.every(dim => typeof dim === 'number') ? shape : undefined
}

function tensorLike(value: Value, dims: readonly number[], data: Float32Array): Tensor {
  const dtype = floatTypeOf(value)
  if (dtype === 'float16' && data.some(number => Math.abs(number) > FLOAT16_MAX))
    throw new QuantError(
      'E_UNSUPPORTED',
      `"${value.name}" would hold numbers beyond ${FLOAT16_MAX}, the largest of float16`,
      'Export the model as float32, or switch transformations off.',
    )
  return storeFloats(dtype, dims, data)
}
