/** @file Weights as ai.onnx DequantizeLinear in the user's graph, before the MatMul or Gemm that the graph has (the QDQ form). */

import type { DType } from '../../graph/dtype.ts'
import { type Model, type Node, opsetOf, type Value } from '../../graph/ir.ts'
import { raiseOpset } from '../../graph/passes/raise-opset.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { BLOCKED_OPSET, dequantizeOpset, type PackedDequantize } from '../../kernels/pack/dequantize-linear.ts'
import type { PackedLinear } from '../../kernels/pack/layouts.ts'
import type { Writing } from './write-products.ts'

/** Raises the model's opset where DequantizeLinear needs it for one of these weights. @throws E_UNSUPPORTED as `raiseOpset` does. */
export function raiseForDequantize(model: Model, weights: readonly PackedLinear[]): void {
  const needed = weights.map(packed => {
    if (!('codes' in packed)) return 0
    const { bits, blockSize, codes, scales } = packed
    const K = codes.dims[0]!
    return dequantizeOpset(K, { bits, group: blockSize ?? K, scaleDtype: scaleTypeOf(scales) })
  })
  if (opsetOf(model) < Math.max(...needed)) raiseOpset(model, BLOCKED_OPSET)
}

const scaleTypeOf = ({ dtype }: Tensor): 'float16' | 'float32' => (dtype === 'float16' ? 'float16' : 'float32')

/**
 * ai.onnx DequantizeLinear (opset 13, 19 or 21) of a stored weight: [K, N] of the type of its scales. Written once for all readers.
 * Readers in bodies need it in the main graph: onnxruntime 1.30 refuses to load a body that dequantizes constants of another graph.
 */
function writeDequantizedWeight(
  { writer, weight, shared }: Pick<Writing, 'writer' | 'weight' | 'shared'>,
  { bits, blockSize, codes, scales, zeroPoints }: PackedDequantize,
): Value {
  return shared.once('dequantized', () => {
    const g = writer.at(weight)
    const inputs = [
      g.initializer(`Q${bits}`, codes),
      g.initializer('scales', scales),
      ...(zeroPoints ? [g.initializer('zero_points', zeroPoints)] : []),
    ]
    const attributes: Record<string, number> =
      blockSize === undefined ? { axis: 1 } : { axis: 0, block_size: blockSize }
    return g.op('DequantizeLinear', inputs, attributes, { role: 'dequantized', dtype: scales.dtype })
  })
}

/**
 * The MatMul or Gemm `product` of x and a weight [K, N] that is dequantized. A Gemm keeps its bias if it is of the type that is computed
 * in; transB goes, because onnxruntime fuses blocks along K only where K is the first axis.
 */
export function writeDequantizedProduct(
  writing: Writing,
  x: Value,
  packed: PackedDequantize,
  product: Node,
  keepsBias: boolean,
): Value {
  const dtype: DType = packed.scales.dtype
  const [, , bias] = product.inputs
  const w = writeDequantizedWeight(writing, packed)
  product.attributes.delete('transB')
  return writing.writer.again(product, bias && keepsBias ? [x, w, bias] : [x, w], dtype)
}
