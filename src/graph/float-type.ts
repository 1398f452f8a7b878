/** @file Element type of a float value whose type the file leaves out. */

import { internalError } from '../errors.ts'
import { dtypeFromNumber, type FloatType, isFloat } from './dtype.ts'
import type { Value } from './ir.ts'
import { storedTensor } from './stored-weight.ts'

/**
 * Element type of a float value. Files may leave it out for inner values; then it is the type of the values it is computed from.
 * @throws E_INTERNAL when no type is found.
 */
export function floatTypeOf(value: Value): FloatType {
  const seen = new Set<Value>()
  const stack = [value]
  for (let current = stack.pop(); current; current = stack.pop()) {
    if (seen.has(current)) continue
    seen.add(current)
    const { producer } = current
    const to = producer?.kind === 'Cast' ? producer.attributes.get('to') : undefined
    const dtype =
      current.dtype ?? storedTensor(current)?.dtype ?? (to?.type === 'int' ? dtypeFromNumber(to.value) : undefined)
    if (dtype !== undefined && isFloat(dtype)) return dtype
    // A Cast says its own type. Inputs of another type (indices, masks, shapes) say nothing about this one.
    if (dtype !== undefined || !producer) continue
    const outputs = producer.subgraphs().flatMap(body => body.outputs)
    stack.push(...[...outputs, ...producer.inputs].filter(input => input !== undefined).reverse())
  }
  throw internalError(`no type is known for "${value.name}"`)
}
