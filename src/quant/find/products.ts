/** @file Quantized products and tables of a file, bodies included, whoever wrote them. Reads headers, no weights. */

import type { DType } from '../../graph/dtype.ts'
import { type Graph, consumersOf, type Model, type Node, type Value } from '../../graph/ir.ts'
import { storedTensor } from '../../graph/stored-weight.ts'
import type { NamedProduct, StoredProduct } from '../terms/kernel.ts'
import type { StoredBits } from '../terms/targets.ts'
import { labelOf } from './linears.ts'

type Reader = (node: Node, readers: readonly Node[]) => StoredProduct | undefined

const MICROSOFT = 'com.microsoft.'

/** Elements of integer types that weights are stored in. */
const WIDTHS: Partial<Record<DType, StoredBits>> = { int2: 2, uint2: 2, int4: 4, uint4: 4, int8: 8, uint8: 8 }

const typeOf = (value: Value | undefined): DType | undefined => value && (value.dtype ?? storedTensor(value)?.dtype)

/** Type of the scales; files may leave it out for computed ones. */
const scaleType = (scales: Value): DType => typeOf(scales) ?? 'float32'

/** Zero points, by the type of their input. */
function zeroPointsOf(value: Value | undefined): StoredProduct['zeroPoints'] {
  if (!value) return 'none'
  return WIDTHS[typeOf(value) ?? 'uint8'] === undefined ? 'float' : 'integer'
}

const widthOf = (bits: number): StoredBits => (bits <= 2 ? 2 : bits <= 4 ? 4 : 8)

/** com.microsoft MatMulNBits (opset 1): A, B, scales, zero_points, g_idx, bias. */
function readNBits(node: Node): ReturnType<Reader> {
  const [, , scales, zeroPoints, , bias] = node.inputs
  if (!scales) return undefined
  return {
    op: 'MatMulNBits',
    K: node.int('K', 0),
    N: node.int('N', 0),
    bits: widthOf(node.int('bits', 4)),
    block: node.int('block_size', 0),
    zeroPoints: zeroPointsOf(zeroPoints),
    level: node.int('accuracy_level', 0),
    dtype: scaleType(scales),
    bias: bias !== undefined,
  }
}

/** com.microsoft MatMulIntegerToFloat (opset 1): A, B, a_scale, b_scale, a_zero_point, b_zero_point, bias. */
function readInteger(node: Node): ReturnType<Reader> {
  const [, weight, , scales, , zeroPoints, bias] = node.inputs
  const dims = weight && storedTensor(weight)?.dims
  const columns = scales && storedTensor(scales)?.dims
  return {
    op: 'MatMulIntegerToFloat',
    K: dims?.[0],
    N: dims?.[1] ?? columns?.[0],
    bits: 8,
    block: undefined,
    zeroPoints: zeroPointsOf(zeroPoints),
    level: 0,
    dtype: scales ? scaleType(scales) : 'float32',
    bias: bias !== undefined,
  }
}

/** com.microsoft GatherBlockQuantized (opset 1): data, indices, scales, zero_points. */
function readTable(node: Node): ReturnType<Reader> {
  const [data, , scales, zeroPoints] = node.inputs
  const tensor = data && storedTensor(data)
  if (!tensor || !scales) return undefined
  const width = tensor.dtype === 'uint8' ? widthOf(node.int('bits', 4)) : (WIDTHS[tensor.dtype] ?? 4)
  const perByte = tensor.dtype === 'uint8' ? 8 / width : 1
  return {
    op: 'GatherBlockQuantized',
    K: tensor.dims.at(-1)! * perByte,
    N: tensor.dims[0],
    bits: width,
    block: node.int('block_size', 128),
    zeroPoints: zeroPointsOf(zeroPoints),
    level: 0,
    dtype: scaleType(scales),
    bias: false,
  }
}

/** com.microsoft QMoE (opset 1); block_size 0 = one scale per output. Input 11 has the zero points of fc1. */
function readExperts(node: Node): ReturnType<Reader> {
  const [, , , scales] = node.inputs
  if (!scales) return undefined
  return {
    op: 'QMoE',
    K: undefined,
    N: undefined,
    bits: widthOf(node.int('expert_weight_bits', 4)),
    block: node.int('block_size', 0) || undefined,
    zeroPoints: zeroPointsOf(node.inputs[11]),
    level: 0,
    dtype: scaleType(scales),
    bias: false,
  }
}

/** DequantizeLinear (opset 10; blocks from 21) of a stored matrix, where a product reads it, perhaps behind a Transpose. */
function readDequantized(node: Node, readers: readonly Node[]): ReturnType<Reader> {
  const [data, scales, zeroPoints] = node.inputs
  const tensor = data && storedTensor(data)
  const width = tensor && WIDTHS[tensor.dtype]
  const isRead = readers.some(({ kind }) => kind === 'MatMul' || kind === 'Gemm' || kind === 'Transpose')
  if (!tensor || width === undefined || tensor.dims.length !== 2 || !scales || !isRead) return undefined
  const block = node.int('block_size', 0)
  const transposed = readers.some(reader => reader.kind === 'Transpose' || reader.int('transB', 0) === 1)
  const [K, N] = (transposed ? [...tensor.dims].reverse() : tensor.dims) as [number, number]
  return {
    op: 'qdq',
    K,
    N,
    bits: width,
    block: block === 0 ? K : block,
    zeroPoints: zeroPointsOf(zeroPoints),
    level: 0,
    dtype: scaleType(scales),
    bias: false,
  }
}

/** Readers of nodes, by kind. */
const READERS: Readonly<Record<string, Reader>> = {
  [`${MICROSOFT}MatMulNBits`]: readNBits,
  [`${MICROSOFT}MatMulIntegerToFloat`]: readInteger,
  [`${MICROSOFT}GatherBlockQuantized`]: readTable,
  [`${MICROSOFT}QMoE`]: readExperts,
  DequantizeLinear: readDequantized,
}

/** Every quantized product and table of a file by its node, in the order of the nodes. */
export function findProducts({ graph }: Model): Map<Node, NamedProduct> {
  const readers = consumersOf(graph)
  const found = new Map<Node, NamedProduct>()
  const visit = (current: Graph) => {
    for (const node of current.nodes) {
      const product = readProduct(node, readers)
      if (product) found.set(node, product)
      node.subgraphs().forEach(visit)
    }
  }
  visit(graph)
  return found
}

function readProduct(node: Node, readers: ReadonlyMap<Value, readonly Node[]>): NamedProduct | undefined {
  const [output] = node.outputs
  const product = READERS[node.kind]?.(node, (output && readers.get(output)) ?? [])
  const weight = node.inputs[1] ?? node.inputs[0]
  return product && weight && { ...product, name: labelOf(node, weight) }
}
