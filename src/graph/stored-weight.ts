/**
 * @file The walk from a value to the stored matrix behind it, through nodes that only rearrange it. Works in the user's graph and in
 * the working copy. Knows no op that reads weights.
 */

import { dtypeFromNumber, isFloat } from './dtype.ts'
import type { Node, Value } from './ir.ts'
import type { Refused } from './refusal.ts'
import type { Tensor } from './tensor.ts'

/** A stored matrix. */
export interface StoredWeight {
  /** Value that holds `tensor`: an initializer, or the output of a Constant node. */
  readonly weight: Value
  readonly tensor: Tensor
  /** True when the value is the transpose of the stored matrix. */
  readonly transposed: boolean
}

const dimsOf = (value: Value): string => value.shape?.join(', ') ?? '?'

/** True when both shapes are known and equal. */
function keepsShape(from: Value, to: Value): boolean {
  const isKnown = ({ shape }: Value) => shape?.every(dim => typeof dim === 'number') === true
  return isKnown(from) && isKnown(to) && dimsOf(from) === dimsOf(to)
}

/** By op kind: true when the node swaps the two axes of a matrix, false when it keeps them, a reason when it does more. */
const STEPS: Readonly<Record<string, (node: Node, from: Value) => boolean | Refused<Node>>> = {
  // Without perm all axes are reversed. A perm of another rank is found later: the stored tensor is no matrix then.
  Transpose: node => (node.ints('perm') ?? [1, 0]).join() === '1,0',
  Cast: node => (isFloat(dtypeFromNumber(node.int('to', 1))) ? false : { at: node, reason: 'rounded by a Cast' }),
  Identity: () => false,
  Reshape: (node, from) =>
    keepsShape(from, node.outputs[0]!) ? false : { at: node, reason: `reshaped from [${dimsOf(from)}] before use` },
}

/** Tensor of an initializer or of a Constant node. */
export function storedTensor({ tensor, producer }: Value): Tensor | undefined {
  const value = producer?.kind === 'Constant' ? producer.attributes.get('value') : undefined
  return tensor ?? (value?.type === 'tensor' ? value.value : undefined)
}

/** The stored matrix [rows, columns] behind `value`; refused, as the end of a sentence about `value`, where the walk stops. */
export function findStoredWeight(value: Value): StoredWeight | Refused<Node | Value> {
  let weight = value
  let transposed = false
  let tensor = storedTensor(weight)
  while (!tensor) {
    const { producer } = weight
    const from = producer?.inputs[0]
    if (!producer || !from) return { at: weight, reason: 'not stored in the file' }
    const swaps = STEPS[producer.kind]?.(producer, from) ?? { at: producer, reason: `computed by ${producer.kind}` }
    if (typeof swaps !== 'boolean') return swaps
    transposed = transposed !== swaps
    weight = from
    tensor = storedTensor(weight)
  }
  if (tensor.dims.length !== 2)
    return { at: weight, reason: `stored as [${tensor.dims.join(', ')}], which is no matrix` }
  return { weight, tensor, transposed }
}
