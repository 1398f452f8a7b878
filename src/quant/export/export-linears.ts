/** @file Replaces linears of the user's graph by quantized ones. Their operators are in write-products.ts. */

import { internalError } from '../../errors.ts'
import type { DType } from '../../graph/dtype.ts'
import { floatTypeOf } from '../../graph/float-type.ts'
import { GraphWriter, type Stem } from '../../graph/graph-writer.ts'
import { type Graph, type Model, type Node, replaceOutput, type Value } from '../../graph/ir.ts'
import { storeFloats } from '../../kernels/float16.ts'
import type { PackedLinear } from '../../kernels/pack/layouts.ts'
import { hasNBitsKernel } from '../../kernels/pack/matmul-nbits.ts'
import type { WrittenQuantizer } from '../../kernels/static-range.ts'
import type { ExportOptions } from '../terms/options.ts'
import { requireOpset, SharedActivations, type WrittenMatrix } from './quantize-rows.ts'
import { raiseForDequantize, writeDequantizedProduct } from './write-dequantized.ts'
import {
  SharedWeight,
  writeIntegerProduct,
  writeNBitsProduct,
  writePortableProduct,
  type Writing,
} from './write-products.ts'

export interface ExportedLinear {
  /** The MatMul or Gemm of the user's graph. */
  readonly origin: Node
  /** Nodes of other branches that read the same weight; the packed weight is stored once for all. */
  readonly otherBranch?: readonly Node[] | undefined
  /** Packed for MatMulNBits; for DequantizeLinear; or in planes, which have one scale per output channel and allow integer products. */
  readonly packed: PackedLinear
  /** Quantizer of the input, per row of the last axis or over a fixed range; the input is not quantized when absent. */
  readonly activation?: WrittenQuantizer | undefined
  /** Matrix that the input is multiplied by before it is quantized; one for all linears that read a value with this quantizer. */
  readonly matrix?: WrittenMatrix | undefined
  /** Added to the result, [N]; set when the user's graph has no bias that could hold it. */
  readonly addedBias?: Float32Array | undefined
  readonly inFeatures: number
  readonly outFeatures: number
  /** Number of dimensions of the input (default 2). Needed for inputs that may have no rows when the model runs. */
  readonly rank?: number | undefined
}

/**
 * Replaces linears in `model.graph` and the bodies in it, in place. Names, inputs, outputs and all other nodes stay. A Gemm's bias
 * becomes an Add. Weights without readers are dropped. Linears that read the same value quantize it once.
 *
 * Weights packed for DequantizeLinear are read by the linears that there are: MatMul and Gemm stay, with [K, N] as second input.
 * The model's opset is raised where it is too low.
 *
 * Weights packed for MatMulNBits are multiplied by it, also with quantized activations; x is then quantized and dequantized first.
 * The product is computed in float32 in three cases: activations are quantized, weights come in planes, or MatMulNBits has no CPU
 * kernel for the model's type (bfloat16).
 * @throws E_UNSUPPORTED when the model's opset is below 11 and activations are quantized or weights come in planes; when it cannot be
 * raised.
 */
export function exportLinears(
  model: Model,
  linears: readonly ExportedLinear[],
  { accuracyLevel, format }: ExportOptions,
): void {
  raiseForDequantize(
    model,
    linears.map(({ packed }) => packed),
  )
  const writer = new GraphWriter(model)
  if (linears.some(({ packed, activation }) => activation !== undefined || 'planes' in packed)) requireOpset(writer)
  const activations = new Map<Graph, SharedActivations>()
  const top = new Set(model.graph.nodes)
  const byOrigin = new Map(
    linears.flatMap(linear => {
      const origins = [linear.origin, ...(linear.otherBranch ?? [])]
      const weight = new SharedWeight(
        writer,
        origins.some(origin => !top.has(origin)),
      )
      return origins.map(origin => [origin, { ...linear, origin, weight }] as const)
    }),
  )
  const absent = new Set(byOrigin.keys())
  // In the graph's order, so that shared values are written before their first reader.
  writer.rewriteNodes((node, graph) => {
    const linear = byOrigin.get(node)
    if (!linear) return [node]
    absent.delete(node)
    if (!activations.has(graph)) activations.set(graph, new SharedActivations(writer, graph, format))
    const [output] = node.outputs as [Value]
    replaceOutput(writeLinear(writer, activations.get(graph)!, linear, { accuracyLevel, format }), output)
    return writer.take()
  })
  if (absent.size > 0) throw internalError(`linears that are not in the graph: ${[...absent].map(({ name }) => name)}`)
  writer.dropOrphans()
}

/** A linear at one of its nodes. */
interface PlacedLinear extends ExportedLinear {
  readonly weight: SharedWeight
}

/** True when the product is computed in float32 whatever the model's type. DequantizeLinear has scales of the same types. */
const computesInFloat32 = ({ packed, activation }: ExportedLinear, dtype: DType): boolean =>
  activation !== undefined || 'planes' in packed || !hasNBitsKernel(dtype)

function writeLinear(
  writer: GraphWriter,
  activations: SharedActivations,
  linear: PlacedLinear,
  options: ExportOptions,
): Value {
  const { origin, addedBias, outFeatures } = linear
  const storedWeight = origin.inputs[1]!
  const result: Stem = { values: origin.outputs[0]!.name, nodes: origin.name }
  const g = writer.at(result)
  const weight: Stem = { values: storedWeight.name, nodes: origin.name && `${origin.name}_weight` }
  const writing = { writer, activations, weight, shared: linear.weight, result }
  // Both operands of a product have one type; the stored one knows it.
  const dtype = floatTypeOf(storedWeight)
  const bias = origin.kind === 'Gemm' ? origin.inputs[2] : undefined
  const product = writeProduct(writing, linear, dtype, options)
  product.producer!.source = origin.source
  let y = computesInFloat32(linear, dtype) ? g.typed(product, dtype) : product
  if (bias && !product.producer!.inputs.includes(bias)) y = g.op('Add', [y, bias], {}, { role: 'bias' })
  if (!addedBias) return y
  const tensor = storeFloats(dtype, [outFeatures], addedBias)
  const shift = linear.weight.once('shift', () => g.initializer('shift', tensor))
  return g.op('Add', [y, shift], {}, { role: 'shifted' })
}

/** Product of a linear without its bias. */
function writeProduct(writing: Writing, linear: PlacedLinear, dtype: DType, options: ExportOptions): Value {
  const { origin, packed, activation, matrix, inFeatures, outFeatures } = linear
  const rows = { channels: inFeatures, rank: linear.rank ?? 2 }
  const read = origin.inputs[0]!
  const x = matrix ? writing.activations.transformed(read, matrix, rows) : read
  if ('planes' in packed) {
    return activation && options.format === 'integer'
      ? writeIntegerProduct(writing, x, packed, { quantizer: activation, ...rows })
      : writePortableProduct(writing, x, packed, activation && { quantizer: activation, ...rows })
  }
  const { activations } = writing
  const inFloat32 = computesInFloat32(linear, dtype)
  const input = activation ? activations.dequantized(x, activation, rows) : inFloat32 ? activations.float32(x) : x
  if ('codes' in packed) return writeDequantizedProduct(writing, input, packed, origin, !inFloat32)
  return writeNBitsProduct(writing, {
    x: input,
    dtype: inFloat32 ? 'float32' : dtype,
    packed,
    inFeatures,
    outFeatures,
    accuracyLevel: activation ? 0 : options.accuracyLevel,
  })
}
