/**
 * @file Three forms of a quantized linear in the user's graph. Each function writes the product; the caller adds the bias and casts
 * to the model's type.
 */

import type { DType } from '../../graph/dtype.ts'
import type { GraphWriter, Stem } from '../../graph/graph-writer.ts'
import type { Value } from '../../graph/ir.ts'
import { MadeOnce } from '../../graph/target.ts'
import { type Tensor, tensorOf } from '../../graph/tensor.ts'
import type { PackedWeight } from '../../kernels/pack/matmul-nbits.ts'
import type { PackedPlanes } from '../../kernels/pack/planes.ts'
import { symmetricZeroPoint } from '../../kernels/qparams.ts'
import type { WrittenQuantizer } from '../../kernels/static-range.ts'
import type { RowShape, SharedActivations } from './quantize-rows.ts'
import { writeFloatWeight, writeInt8Weight } from './write-planes.ts'

/** Tools and names for one product. */
export interface Writing {
  readonly writer: GraphWriter
  readonly activations: SharedActivations
  /** Stem for constants and values computed from the weight alone. */
  readonly weight: Stem
  readonly shared: SharedWeight
  /** Stem for all other values. */
  readonly result: Stem
}

/** Constants of one weight, and values computed from them alone, for all nodes that read it. */
export class SharedWeight {
  private readonly values = new MadeOnce()
  private readonly writer: GraphWriter
  private readonly ahead: boolean

  /** @param ahead true when nodes are in bodies: shared values must then come first in the graph, where all of them see them. */
  constructor(writer: GraphWriter, ahead: boolean) {
    this.writer = writer
    this.ahead = ahead
  }

  /** Result of `make` for `key`, made once. */
  once(key: string, make: () => Value): Value {
    return this.values.once(key, () => (this.ahead ? this.writer.ahead(make) : make()))
  }
}

/** Quantizer and shape of a product's input. */
interface QuantizedInput extends RowShape {
  readonly quantizer: WrittenQuantizer
}

const MICROSOFT = 'com.microsoft'

export interface NBitsProduct {
  readonly x: Value
  /** Type of x, which the file may leave out; MatMulNBits has a kernel for it. */
  readonly dtype: DType
  readonly packed: PackedWeight
  readonly inFeatures: number
  readonly outFeatures: number
  readonly accuracyLevel: 0 | 4
}

/** com.microsoft MatMulNBits (opset 1). Codes that a table shares are stored as rows [N, K * bits / 8] and read through a Reshape. */
export function writeNBitsProduct({ writer, weight, shared, result }: Writing, product: NBitsProduct): Value {
  const { x, dtype, packed, inFeatures, outFeatures, accuracyLevel } = product
  const onWeight = writer.at(weight)
  const constant = (name: string, tensor: Tensor) => shared.once(name, () => onWeight.initializer(name, tensor))
  const codes = constant(`Q${packed.bits}`, packed.b)
  const blocks = [outFeatures, packed.scales.dims[1]!, (packed.blockSize * packed.bits) / 8]
  const b =
    packed.b.dims.length === 3
      ? codes
      : shared.once('blocks', () => onWeight.op('Reshape', [codes, onWeight.ints(blocks)], {}, { role: 'blocks' }))
  const stored = constant('scales', packed.scales)
  const scales = shared.once(`scales ${dtype}`, () =>
    writer.at({ values: stored.name, nodes: weight.nodes }).typed(stored, dtype),
  )
  const zeros = packed.zeroPoints && [constant('zero_points', packed.zeroPoints)]
  const attributes = {
    K: inFeatures,
    N: outFeatures,
    bits: packed.bits,
    block_size: packed.blockSize,
    ...(accuracyLevel !== 0 && { accuracy_level: accuracyLevel }),
  }
  return writer.at(result).op('MatMulNBits', [x, b, scales, ...(zeros ?? [])], attributes, {
    role: `Q${packed.bits}`,
    domain: MICROSOFT,
    dtype,
  })
}

/**
 * Product of x as uint8 codes and the weight as int8 codes. With c = 2^(bits-1) of x's quantizer, and s, z scale and zero point of
 * its row,
 *
 *   y = (sum_k (q_x - c) (q_w - z_w) * s_w  -  (z - c) * sum_k (q_w - z_w) * s_w) * s.
 *
 * The first sum is com.microsoft MatMulIntegerToFloat (opset 1), exact in int32; the second is a constant of each column. The
 * kernel subtracts c at no cost. Both terms are then small, and the rounding error is a tenth of that with c = 0.
 *
 * Over a fixed range s and z are constants of x, and the kernel takes them: there is no correction.
 * @returns y in float32.
 */
export function writeIntegerProduct(
  { writer, activations, weight, shared, result }: Writing,
  x: Value,
  packed: PackedPlanes,
  { quantizer, ...rows }: QuantizedInput,
): Value {
  const { bits, N, scale, zeroPoint, columnSums } = packed
  const middle = symmetricZeroPoint(bits)
  const g = writer.at(result)
  const onWeight = writer.at(weight)
  const constant = (name: string, elements: Float32Array | Int8Array) => {
    const dtype = elements instanceof Int8Array ? 'int8' : 'float32'
    return shared.once(name, () => onWeight.initializer(name, tensorOf(dtype, [N], elements)))
  }
  /** The product of codes, x = (code - zero) * step. Constants are made in the order of the inputs. */
  const multiplied = (codes: Value, step: () => Value, zero: () => Value) => {
    const inputs = [
      codes,
      shared.once('int8', () => writeInt8Weight(onWeight, packed)),
      step(),
      constant('scale', scale),
      zero(),
    ]
    if (zeroPoint.some(each => each !== middle))
      inputs.push(
        constant(
          'zero_point',
          Int8Array.from(zeroPoint, each => each - middle),
        ),
      )
    return g.op('MatMulIntegerToFloat', inputs, {}, { role: `Q${bits}`, domain: MICROSOFT, dtype: 'float32' })
  }
  if (quantizer.kind === 'static') {
    const fixed = activations.fixed(x, quantizer)
    return multiplied(
      fixed.codes,
      () => fixed.scale,
      () => fixed.zeroPoint,
    )
  }
  const { codes, scale: rowScale, offset } = activations.integer(x, quantizer, rows)
  const corrected = (product: Value, offset: Value) => {
    const sums = constant(
      'column_sums',
      scale.map((step, n) => step * columnSums[n]!),
    )
    const correction = g.op('Mul', [offset, sums], {}, { role: 'correction' })
    return g.op('Sub', [product, correction], {}, { role: 'corrected' })
  }
  const product = multiplied(
    codes,
    () => g.scalar(1),
    () => g.scalar(symmetricZeroPoint(quantizer.bits), 'uint8'),
  )
  return g.op('Mul', [offset ? corrected(product, offset) : product, rowScale], {}, { role: 'scaled' })
}

/**
 * The same numbers by operators of ai.onnx: MatMul of x and the weight. The weight is dequantized when the model is loaded; x is
 * quantized and dequantized if it has a quantizer. DequantizeLinear is not used: onnxruntime would fuse it with MatMul to a
 * MatMulNBits that rounds activations to 8 bits.
 * @returns y in float32.
 */
export function writePortableProduct(
  { writer, activations, weight, shared, result }: Writing,
  x: Value,
  packed: PackedPlanes,
  quantized: QuantizedInput | undefined,
): Value {
  const input = quantized ? activations.dequantized(x, quantized.quantizer, quantized) : activations.float32(x)
  const float = shared.once('float', () => writeFloatWeight(writer.at(weight), packed))
  return writer.at(result).op('MatMul', [input, float], {}, { role: `Q${packed.bits}` })
}
