/** @file Puts quantized linears into the user's own graph. What they are written as is in products.ts. */

import { internalError } from '../../errors.ts'
import type { DType } from '../../graph/dtype.ts'
import { floatTypeOf, giveAs, GraphWriter, type Stem } from '../../graph/graph-writer.ts'
import type { Graph, Model, Node, Value } from '../../graph/ir.ts'
import { storeFloats } from '../../kernels/float16.ts'
import { hasNBitsKernel, type PackedWeight } from '../../kernels/pack/matmul-nbits.ts'
import type { PackedPlanes } from '../../kernels/pack/planes.ts'
import type { ActivationQuantizer } from '../../kernels/tokens.ts'
import type { ExportOptions } from '../terms/options.ts'
import { SharedActivations } from './quantize-rows.ts'
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
  /** Others, in other branches, that read the same weight: what is packed is stored once for all of them. */
  readonly twins?: readonly Node[] | undefined
  /** For MatMulNBits; or in planes, which have one scale per output channel and can be multiplied with integers. */
  readonly packed: PackedWeight | PackedPlanes
  /** How the input is quantized, each row of the last axis by itself; not at all when absent. */
  readonly activation?: ActivationQuantizer | undefined
  /** Added to the result, [N]: for what the user's graph has no bias to put in. */
  readonly addedBias?: Float32Array | undefined
  readonly inFeatures: number
  readonly outFeatures: number
  /** Number of dimensions of the input (default 2): for inputs that may have no rows when the model runs. */
  readonly rank?: number | undefined
}

/**
 * Replaces linears in `model.graph` and the bodies in it, in place: names, inputs, outputs and everything else stay. A Gemm's bias becomes an Add.
 * Weights nothing reads any more are dropped. Linears that read the same value quantize it once.
 *
 * Weights packed for MatMulNBits stay that, behind x quantized and dequantized where activations are quantized. Where they are, or
 * weights come in planes, the product is computed in float32 whatever the type of the model; so it is for types that MatMulNBits has
 * no CPU kernel for (bfloat16).
 * @throws E_UNSUPPORTED when the model's opset is below 11 and activations are quantized or weights come in planes.
 */
export function exportLinears(
  model: Model,
  linears: readonly ExportedLinear[],
  { accuracyLevel, format }: ExportOptions,
): void {
  const writer = new GraphWriter(model)
  if (linears.some(({ packed, activation }) => activation !== undefined || 'planes' in packed)) writer.requireOpset()
  const activations = new Map<Graph, SharedActivations>()
  const byOrigin = new Map(
    linears.flatMap(linear => {
      const weight = new SharedWeight(writer, (linear.twins ?? []).length > 0)
      return [linear.origin, ...(linear.twins ?? [])].map(origin => [origin, { ...linear, origin, weight }] as const)
    }),
  )
  const absent = new Set(byOrigin.keys())
  // In the graph's order, so that what linears share is written before the first that reads it.
  writer.rewriteNodes((node, graph) => {
    const linear = byOrigin.get(node)
    if (!linear) return [node]
    absent.delete(node)
    if (!activations.has(graph)) activations.set(graph, new SharedActivations(writer, graph))
    const [output] = node.outputs as [Value]
    giveAs(writeLinear(writer, activations.get(graph)!, linear, { accuracyLevel, format }), output)
    return writer.take()
  })
  if (absent.size > 0) throw internalError(`linears that are not in the graph: ${[...absent].map(({ name }) => name)}`)
  writer.dropOrphans()
}

/** One of the nodes a linear is written for. */
interface PlacedLinear extends ExportedLinear {
  readonly weight: SharedWeight
}

/** Whether the product is float32 where the model's type is another. */
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
  const stem: Stem = { values: origin.outputs[0]!.name, nodes: origin.name }
  const weight: Stem = { values: storedWeight.name, nodes: origin.name && `${origin.name}_weight` }
  const writing = { writer, activations, weight, shared: linear.weight, result: stem }
  // Both operands of a product have one type, and a stored one says which.
  const dtype = floatTypeOf(storedWeight)
  const product = writeProduct(writing, linear, dtype, options)
  product.producer!.source = origin.source
  let result = computesInFloat32(linear, dtype) ? writer.cast(stem, product, dtype) : product
  const bias = origin.kind === 'Gemm' ? origin.inputs[2] : undefined
  if (bias) result = writer.op(stem, 'bias', 'Add', [result, bias])
  if (!addedBias) return result
  const tensor = storeFloats(dtype, [outFeatures], addedBias)
  const shift = linear.weight.once('shift', () => writer.constant(`${stem.values}_shift`, tensor))
  return writer.op(stem, 'shifted', 'Add', [result, shift])
}

/** The product of a linear without its bias. */
function writeProduct(writing: Writing, linear: PlacedLinear, dtype: DType, options: ExportOptions): Value {
  const { origin, packed, activation, inFeatures, outFeatures } = linear
  const rows = { channels: inFeatures, rank: linear.rank ?? 2 }
  const x = origin.inputs[0]!
  if ('planes' in packed) {
    return activation && options.format === 'integer'
      ? writeIntegerProduct(writing, x, packed, { quantizer: activation, ...rows })
      : writePortableProduct(writing, x, packed, activation && { quantizer: activation, ...rows })
  }
  const { activations } = writing
  const inFloat32 = computesInFloat32(linear, dtype)
  return writeNBitsProduct(writing, {
    x: activation ? activations.dequantized(x, activation, rows) : inFloat32 ? activations.float32(x) : x,
    dtype: inFloat32 ? 'float32' : dtype,
    packed,
    inFeatures,
    outFeatures,
    accuracyLevel: activation ? 0 : options.accuracyLevel,
  })
}
