/** @file Pass: replaces nodes whose output is known from attributes, shapes or a constant mask by that tensor. Computes nothing else. */

import { QuantError } from '../../errors.ts'
import type { Node, Value } from '../ir.ts'
import { MAX_COORDINATES } from '../limits.ts'
import { constantNumbers, staticShape } from '../shape.ts'
import { elementCount, floatTensor, int64Tensor, type Tensor } from '../tensor.ts'
import type { Inputs, NodePass } from './pass.ts'

const constantNode = (node: Node): Tensor => {
  const attribute = (name: string) => node.attributes.get(name)
  const value = attribute('value')
  if (value?.type === 'tensor') return value.value
  const float = attribute('value_float')
  if (float?.type === 'float') return floatTensor([], [float.value])
  const floats = attribute('value_floats')
  if (floats?.type === 'floats') return floatTensor([floats.value.length], floats.value)
  const int = attribute('value_int')
  if (int?.type === 'int') return int64Tensor([], [int.value])
  const ints = attribute('value_ints')
  if (ints?.type === 'ints') return int64Tensor([ints.value.length], ints.value)
  throw new QuantError('E_UNSUPPORTED', `Constant node "${node.name}" holds neither a tensor nor numbers`)
}

/**
 * Coordinates [rank, found] of the elements of a constant that are not 0, the last axis fastest (NonZero, ONNX 13).
 * @throws E_TOO_LARGE
 */
function nonZeroOf(node: Node, mask: Value): Tensor | undefined {
  const shape = staticShape(mask)
  if (elementCount(shape) * shape.length > MAX_COORDINATES)
    throw new QuantError(
      'E_TOO_LARGE',
      `NonZero "${node.name}" reads a constant [${shape.join(', ')}], which has more elements than any decoder needs`,
      'The file is damaged, or its sequences are too long: use shorter ones with --seq-len, or export it again.',
    )
  const found = constantNumbers(mask)?.flatMap((number, i) => (number === 0 ? [] : [i]))
  if (!found) return undefined
  const coordinates = shape.flatMap((dim, axis) => {
    const stride = elementCount(shape.slice(axis + 1))
    return found.map(i => Math.floor(i / stride) % dim)
  })
  return int64Tensor([shape.length, found.length], coordinates)
}

/** Tensor of a Constant, Shape or Size, and of NonZero of a constant. */
function knownTensor(node: Node, inputs: Inputs): Tensor | undefined {
  if (node.kind === 'Constant') return constantNode(node)
  if (node.kind === 'Shape') {
    const shape = staticShape(inputs[0]!)
    const clamp = (index: number) => Math.min(Math.max(index < 0 ? index + shape.length : index, 0), shape.length)
    const dims = shape.slice(clamp(node.int('start', 0)), clamp(node.int('end', shape.length)))
    return int64Tensor([dims.length], dims)
  }
  if (node.kind === 'NonZero' && inputs[0]?.tensor) return nonZeroOf(node, inputs[0])
  if (node.kind === 'Size') return int64Tensor([], [elementCount(staticShape(inputs[0]!))])
  return undefined
}

export const KNOWN_TENSORS: NodePass = {
  name: 'replace known tensors',
  apply: (_, node, inputs) => {
    const tensor = knownTensor(node, inputs)
    return tensor && { tensor }
  },
}
