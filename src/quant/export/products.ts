/**
 * @file The forms a quantized linear takes in the user's graph. Each writes the product alone and gives its value: bias and type
 * are the caller's. The only file that knows what onnxruntime calls block_size.
 */

import type { Value } from '../../graph/ir.ts'
import { tensorOf } from '../../graph/tensor.ts'
import type { ActivationQuantizer } from '../../kernels/fake-quantize-tokens.ts'
import type { PackedWeight } from '../../kernels/pack.ts'
import type { PackedPlanes } from '../../kernels/pack-planes.ts'
import { symmetricZeroPoint } from '../../kernels/qparams.ts'
import type { SharedActivations } from './activations.ts'
import { writeFloatWeight, writeInt8Weight } from './planes.ts'
import type { GraphWriter, Stem } from './writer.ts'

/** What a product is written with: `weight` names constants, `result` nodes. */
export interface Writing {
  readonly writer: GraphWriter
  readonly activations: SharedActivations
  readonly weight: Stem
  readonly result: Stem
}

const MICROSOFT = 'com.microsoft'

export interface NBitsProduct {
  /** In the type of the scales, or of any when that is not known. */
  readonly x: Value
  readonly packed: PackedWeight
  readonly inFeatures: number
  readonly outFeatures: number
  readonly accuracyLevel: 0 | 4
}

/** com.microsoft MatMulNBits (opset 1). */
export function writeNBitsProduct({ writer, weight, result }: Writing, product: NBitsProduct): Value {
  const { x, packed, inFeatures, outFeatures, accuracyLevel } = product
  const b = writer.constant(`${weight.values}_Q${packed.bits}`, packed.b)
  const stored = writer.constant(`${weight.values}_scales`, packed.scales)
  const scales = x.dtype ? writer.cast({ ...weight, values: stored.name }, stored, x.dtype) : stored
  const zeros = packed.zeroPoints && [writer.constant(`${weight.values}_zero_points`, packed.zeroPoints)]
  return writer.op(result, `Q${packed.bits}`, 'MatMulNBits', [x, b, scales, ...(zeros ?? [])], {
    domain: MICROSOFT,
    attributes: {
      K: inFeatures,
      N: outFeatures,
      bits: packed.bits,
      block_size: packed.blockSize,
      ...(accuracyLevel !== 0 && { accuracy_level: accuracyLevel }),
    },
  })
}

/**
 * x as uint8 codes times the weight as int8 codes: with c = 2^(bits-1) of x's quantizer, and s, z scale and zero point of its row,
 *
 *   y = (sum_k (q_x - c) (q_w - z_w) * s_w  -  (z - c) * sum_k (q_w - z_w) * s_w) * s.
 *
 * The first sum is com.microsoft MatMulIntegerToFloat (opset 1), exact in int32; the second is a constant of each column. Taking
 * off c, which the kernel does for nothing, keeps the two small beside their difference: a tenth of the rounding error of c = 0.
 * @returns y in float32.
 */
export function writeIntegerProduct(
  { writer, activations, weight, result }: Writing,
  x: Value,
  packed: PackedPlanes,
  quantizer: ActivationQuantizer,
): Value {
  const { bits, N, scale, zeroPoint, columnSums } = packed
  const { codes, scale: rowScale, offset } = activations.integer(x, quantizer)
  const middle = symmetricZeroPoint(bits)
  const constant = (suffix: string, elements: Float32Array | Int8Array) =>
    writer.constant(
      `${weight.values}_${suffix}`,
      tensorOf(elements instanceof Int8Array ? 'int8' : 'float32', [N], elements),
    )
  const inputs = [
    codes,
    writeInt8Weight(writer, weight, packed),
    writer.scalar(1),
    constant('scale', scale),
    writer.scalar(2 ** (quantizer.bits - 1), 'uint8'),
  ]
  if (zeroPoint.some(zero => zero !== middle))
    inputs.push(
      constant(
        'zero_point',
        Int8Array.from(zeroPoint, zero => zero - middle),
      ),
    )
  const how = { domain: MICROSOFT, dtype: 'float32' } as const
  let product = writer.op(result, `Q${bits}`, 'MatMulIntegerToFloat', inputs, how)
  if (offset) {
    const sums = constant(
      'column_sums',
      scale.map((step, n) => step * columnSums[n]!),
    )
    const correction = writer.op(result, 'correction', 'Mul', [offset, sums])
    product = writer.op(result, 'corrected', 'Sub', [product, correction])
  }
  return writer.op(result, 'scaled', 'Mul', [product, rowScale])
}

/**
 * The same numbers by operators of ai.onnx: MatMul of x, quantized and back where it is quantized at all, with the weight that is
 * dequantized at load. Not DequantizeLinear: onnxruntime would make it a MatMulNBits that rounds activations to 8 bits.
 * @returns y in float32.
 */
export function writePortableProduct(
  { writer, activations, weight, result }: Writing,
  x: Value,
  packed: PackedPlanes,
  quantizer: ActivationQuantizer | undefined,
): Value {
  const input = quantizer ? activations.dequantized(x, quantizer) : activations.float32(x)
  return writer.op(result, `Q${packed.bits}`, 'MatMul', [input, writeFloatWeight(writer, weight, packed)])
}
