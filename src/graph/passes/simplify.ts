/** @file Small rules of the working copy: what a node simply is, without computing anything. One rule per exporter quirk. */

import { option } from '../../option-mark.ts'
import { createHash } from 'node:crypto'
import { QuantError } from '../../errors.ts'
import { dtypeFromNumber, isFloat } from '../dtype.ts'
import type { Graph, Node, Value } from '../ir.ts'
import { MAX_COORDINATES } from '../limits.ts'
import { constantNumbers, requireConstantValue, sameShape, type Shape, staticShape } from '../shape.ts'
import { elementCount, floatTensor, int64Tensor, type Tensor } from '../tensor.ts'

type Inputs = readonly (Value | undefined)[]

const known = (value: Value | undefined): Shape | undefined =>
  value?.shape?.every(dim => typeof dim === 'number') ? (value.shape as Shape) : undefined

const isFloat32 = (value: Value | undefined): boolean => value?.dtype === 'float32'

/** op kind -> the input (or earlier value) the node's first output equals, if it is one. */
const ALIASES: Record<string, (node: Node, inputs: Inputs) => Value | undefined> = {
  Identity: (_, [x]) => x,
  Dropout: (_, [x]) => x,
  // The working copy is float32 throughout: what exporters cast to half and back is the value itself.
  Cast: (node, [x]) => (isFloat32(x) && isFloat(dtypeFromNumber(node.int('to', 1))) ? x : undefined),
  CastLike: (_, [x, like]) => (isFloat32(x) && isFloat32(like) ? x : undefined),
  // SDPA exports guard rows whose mask is closed everywhere; without padding there are none.
  Where: (_, [condition, , otherwise]) => {
    const test = condition?.producer
    return test?.kind === 'IsNaN' && test.inputs[0] === otherwise ? otherwise : undefined
  },
  // An empty cache.
  Concat: (_, inputs) => {
    const filled = inputs.filter(value => elementCount(known(value) ?? [1]) > 0)
    return filled.length === 1 ? filled[0] : undefined
  },
}

/** The value `node` only passes on, if that is all it does. */
export function simplify(node: Node, inputs: Inputs): Value | undefined {
  return ALIASES[node.kind]?.(node, inputs)
}

/** Whether the node that made `value` changes neither elements nor shape. */
export function isNoOp(value: Value): boolean {
  const node = value.producer
  if (!node || !['Reshape', 'Expand', 'Squeeze', 'Unsqueeze', 'Flatten', 'Slice', 'Tile'].includes(node.kind))
    return false
  const [before, after] = [known(node.inputs[0]), known(value)]
  if (!before || !after || !sameShape(before, after)) return false
  // A Slice of unchanged shape may still run backwards.
  return node.kind !== 'Slice' || !(constantNumbers(node.inputs[4]) ?? []).some(step => step < 0)
}

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
 * NonZero (ONNX 13) of a constant: coordinates [rank, found] of its elements that are not 0, the last axis fastest.
 * @throws E_TOO_LARGE
 */
function nonZeroOf(node: Node, mask: Value): Tensor | undefined {
  const shape = staticShape(mask)
  if (elementCount(shape) * shape.length > MAX_COORDINATES)
    throw new QuantError(
      'E_TOO_LARGE',
      `NonZero "${node.name}" reads a constant [${shape.join(', ')}], which has more elements than any decoder needs`,
      `The file is damaged, or its sequences are too long: use shorter ones with ${option('seqLen')}, or export it again.`,
    )
  const found = constantNumbers(mask)?.flatMap((number, i) => (number === 0 ? [] : [i]))
  if (!found) return undefined
  const coordinates = shape.flatMap((dim, axis) => {
    const stride = elementCount(shape.slice(axis + 1))
    return found.map(i => Math.floor(i / stride) % dim)
  })
  return int64Tensor([shape.length, found.length], coordinates)
}

/** The tensor a node stands for when its inputs alone say it: Constant, Shape, Size, NonZero of a constant. */
export function foldedConstant(node: Node, inputs: Inputs): Tensor | undefined {
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

const LOWEST = { int8: -(2 ** 7), int16: -(2 ** 15), int32: -(2 ** 31), int64: -(2 ** 63) } as const

/**
 * The lowest integer divided by -1 is no integer, and processors stop a process that tries (onnxruntime 1.30 does; division by zero it
 * refuses itself): integers are only divided by constants, and by -1 only what is known to be another.
 * @throws E_UNSUPPORTED; E_NOT_ONNX
 */
export function refuseOverflow(node: Node, inputs: Inputs): void {
  const lowest = LOWEST[inputs[0]?.dtype as keyof typeof LOWEST] as number | undefined
  if ((node.kind !== 'Div' && node.kind !== 'Mod') || lowest === undefined) return
  if (!requireConstantValue(node, 1, inputs[1]).includes(-1)) return
  if (requireConstantValue(node, 0, inputs[0]).includes(lowest))
    throw new QuantError('E_NOT_ONNX', `${node.kind} "${node.name}" divides ${lowest} by -1, which overflows`)
}

/** Folded constants that repeat an earlier one (masks and rotary tables do in every layer) -> the earlier one. */
export function shareEqual(initializers: readonly Value[]): Map<Value, Value> {
  const first = new Map<string, Value>()
  const replaced = new Map<Value, Value>()
  for (const value of initializers) {
    const { dtype, dims, data } = value.tensor!
    if (!(data instanceof Uint8Array)) continue
    const key = `${dtype}[${dims}]${createHash('sha256').update(data).digest('base64')}`
    const known = first.get(key)
    if (known) replaced.set(value, known)
    else first.set(key, value)
  }
  return replaced
}

/** Drops the Identity nodes that rules wrote, to keep values apart for a while. @returns what each of their outputs was. */
export function withoutIdentities(graph: Graph): Map<Value, Value> {
  const passed = new Map<Value, Value>()
  for (const node of graph.nodes) {
    node.inputs = node.inputs.map(input => input && (passed.get(input) ?? input))
    if (node.kind === 'Identity') passed.set(node.outputs[0]!, node.inputs[0]!)
  }
  graph.nodes = graph.nodes.filter(node => !passed.has(node.outputs[0]!))
  graph.outputs = graph.outputs.map(output => passed.get(output) ?? output)
  return passed
}
