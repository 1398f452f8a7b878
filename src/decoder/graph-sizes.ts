/** @file Sizes that only the graph shows: the head width behind a symbolic dimension, the length of position tables. */

import { consumersOf, type Graph, type Node, type Value } from '../graph/ir.ts'
import { keepsElements } from '../graph/ops.ts'
import { constantNumbers } from '../graph/shape.ts'

/** Most nodes that a walk towards the inputs visits. */
const MAX_STEPS = 64

function constantDims(value: Value | undefined): readonly number[] | undefined {
  const dims = value?.tensor?.dims ?? value?.producer?.attributes.get('value')?.value
  if (Array.isArray(dims)) return dims as number[]
  return dims !== undefined && typeof dims === 'object' && 'dims' in dims ? (dims.dims as number[]) : undefined
}

/** Size of a value's last axis: from its shape, or from the weight of the linear it comes from. */
function lastDim(value: Value | undefined): number | undefined {
  for (let current = value, step = 0; current !== undefined && step < MAX_STEPS; step++) {
    const dim = current.shape?.at(-1)
    if (typeof dim === 'number' && dim > 0) return dim
    const node: Node | undefined = current.producer
    if (node === undefined) return undefined
    if (node.opType === 'MatMul') return constantDims(node.inputs[1])?.at(-1)
    if (node.opType === 'Gemm') return constantDims(node.inputs[1])?.at(node.int('transB', 0) === 1 ? 0 : -1)
    if (node.opType === 'MatMulNBits') return node.int('N', 0) || undefined
    if (!['Add', 'Cast', 'Identity', 'SimplifiedLayerNormalization', 'RotaryEmbedding'].includes(node.opType)) {
      return undefined
    }
    // A bias is as wide as the value it is added to. Without a bias the walk goes on with the activation.
    const bias: readonly number[] | undefined = node.inputs
      .slice(0, 2)
      .map(constantDims)
      .find(dims => dims?.length === 1)
    if (node.opType === 'Add' && bias !== undefined) return bias[0]
    current = node.inputs[0]
  }
  return undefined
}

function attentionReading(graph: Graph, past: Value): Node | undefined {
  return consumersOf(graph)
    .get(past)
    ?.find(node => node.opType === 'GroupQueryAttention')
}

/**
 * Least length of the cache tensor `past`, also when the cache is empty. A GroupQueryAttention with sliding_window_cache
 * overwrites a ring of at least local_window_size positions; onnxruntime 1.30 refuses a shorter one.
 */
export function cacheCapacityOf(graph: Graph, past: Value): number {
  const attention = attentionReading(graph, past)
  return attention?.int('sliding_window_cache', 0) === 1 ? Math.max(0, attention.int('local_window_size', 0)) : 0
}

/**
 * Width of one head in the cache tensor `past`, from the GroupQueryAttention that reads it: the qkv projection is
 * [num_heads + 2 kv_num_heads] heads wide (num_heads when q comes alone); else cos_cache has half a head's width
 * (com.microsoft GroupQueryAttention 1, inputs 0 query, 1 key, 3 past_key, 4 past_value, 7 cos_cache).
 */
export function headDimOf(graph: Graph, past: Value): number | undefined {
  const attention = attentionReading(graph, past)
  if (attention === undefined) return undefined
  const heads = attention.int('num_heads', 0)
  const kvHeads = attention.int('kv_num_heads', heads)
  const packed = attention.inputs[1] === undefined
  const width = lastDim(attention.inputs[0])
  const headDim = width === undefined ? undefined : width / (packed ? heads + 2 * kvHeads : heads)
  if (headDim !== undefined && Number.isInteger(headDim)) return headDim
  const half = constantDims(attention.inputs[7])?.at(-1)
  return half === undefined ? undefined : half * 2
}

/** The constant scalar among an Add's inputs: OPT looks its positions up two rows further down. */
function scalarOffset(node: Node): number {
  for (const input of node.inputs) {
    const numbers = constantNumbers(input)
    if (numbers?.length === 1) return numbers[0]!
    const attribute = input?.producer?.opType === 'Constant' ? input.producer.attributes.get('value') : undefined
    if (attribute?.type !== 'tensor') continue
    const [offset] = constantNumbers({ tensor: attribute.value } as Value) ?? []
    if (offset !== undefined) return offset
  }
  return 0
}

/** Sum of the constants added to the position ids on the way to `value`; undefined when `value` does not come from them. */
function positionOffset(value: Value | undefined, positionIds: Value): number | undefined {
  let offset = 0
  for (let current = value, step = 0; current !== undefined && step < MAX_STEPS; step++) {
    if (current === positionIds) return offset
    const node: Node | undefined = current.producer
    if (node === undefined || (node.kind !== 'Add' && !keepsElements(node.kind))) return undefined
    if (node.kind === 'Add') offset += scalarOffset(node)
    current = node.inputs.find(input => input !== undefined && (input === positionIds || carries(input)))
  }
  return undefined
}

/** Neither a constant nor a Constant node's output. */
function carries(value: Value): boolean {
  return value.tensor === undefined && value.producer !== undefined && value.producer.opType !== 'Constant'
}

/**
 * The shortest table that positions are looked up in: cos_cache of GroupQueryAttention (input 7) or RotaryEmbedding
 * (com.microsoft input 2; ONNX-23 input 1, which is not looked up when it has a batch axis), or learned positions.
 */
export function positionTableLength(graph: Graph, positionsName: string = 'position_ids'): number | undefined {
  const positionIds = graph.inputs.find(input => input.name === positionsName)
  const lengths: number[] = []
  for (const node of graph.nodes) {
    let table: readonly number[] | undefined
    let offset = 0
    if (node.opType === 'GroupQueryAttention') table = constantDims(node.inputs[7])
    if (node.opType === 'RotaryEmbedding') table = constantDims(node.inputs[node.domain === '' ? 1 : 2])
    if (node.opType === 'Gather' && positionIds !== undefined) {
      const found = positionOffset(node.inputs[1], positionIds)
      if (found !== undefined && node.int('axis', 0) === 0) table = constantDims(node.inputs[0])
      offset = found ?? 0
    }
    if (table?.length === 2) lengths.push(table[0]! - offset)
  }
  return lengths.length === 0 ? undefined : Math.min(...lengths)
}
