/**
 * @file Quantizing activations in the user's graph over fixed ranges: ai.onnx QuantizeLinear and DequantizeLinear with one scale and
 * zero point for the whole tensor (uint8 from opset 10 on, uint16 from 21), or the same numbers by float arithmetic.
 *
 * The portable form has the arithmetic. Between a DequantizeLinear and a QuantizeLinear, with a Relu or Clip before that or not,
 * onnxruntime 1.30 replaces the float weight of a Gemm by an 8-bit one with a single scale (its pass WeightBiasQuantization). On
 * wiki-opt that made a perplexity of 54.5 out of 45.3.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Model, Value } from '../../graph/ir.ts'
import { raiseOpset } from '../../graph/passes/raise-opset.ts'
import { floatTensor, type Tensor, tensorOf } from '../../graph/tensor.ts'
import { qMax } from '../../kernels/qparams.ts'
import type { FixedQuantizer } from '../../kernels/static-range.ts'
import type { Format } from '../terms/options.ts'
import type { SiteQuantizer } from '../terms/scheme.ts'

/** Codes of a value, with the constants that give them their meaning. */
export interface WrittenCodes {
  /** uint8 or uint16. */
  readonly codes: Value
  /** float32 []. */
  readonly scale: Value
  /** Scalar of the type of the codes. */
  readonly zeroPoint: Value
}

/** Least version of ai.onnx that a quantizer of activations needs; 0 for those that every model has that can be quantized. */
export const activationOpset = (quantizer: SiteQuantizer | undefined, format: Format): number =>
  quantizer?.kind === 'static' && quantizer.bits > 8 && format !== 'portable' ? 21 : 0

/** Raises the model's opset where QuantizeLinear needs it for one of these quantizers. @throws E_UNSUPPORTED as `raiseOpset` does. */
export function raiseForQuantize(model: Model, quantizers: readonly SiteQuantizer[], format: Format): void {
  raiseOpset(model, Math.max(0, ...quantizers.map(quantizer => activationOpset(quantizer, format))))
}

const zeroTensor = ({ bits, zeroPoint }: FixedQuantizer): Tensor =>
  bits > 8 ? tensorOf('uint16', [], Uint16Array.of(zeroPoint)) : tensorOf('uint8', [], Uint8Array.of(zeroPoint))

/** QuantizeLinear of x, float32. */
export function writeCodes(g: Builder, x: Value, quantizer: FixedQuantizer): WrittenCodes {
  const zero = zeroTensor(quantizer)
  const scale = g.initializer('scale', floatTensor([], [quantizer.scale]))
  const zeroPoint = g.initializer('zero_point', zero)
  const codes = g.op('QuantizeLinear', [x, scale, zeroPoint], {}, { role: 'quantized', dtype: zero.dtype })
  return { codes, scale, zeroPoint }
}

/** DequantizeLinear of codes: float32. */
function writeDequantized(g: Builder, { codes, scale, zeroPoint }: WrittenCodes): Value {
  return g.op('DequantizeLinear', [codes, scale, zeroPoint], {}, { role: 'dequantized', dtype: 'float32' })
}

/** `fakeQuantizeRange` of x, float32, by Div, Round, Clip and Mul (ai.onnx 11): the numbers of both operators above. */
function writeRounded(g: Builder, x: Value, { bits, scale, zeroPoint }: FixedQuantizer): Value {
  const step = g.initializer('scale', floatTensor([], [scale]))
  const ratio = g.op('Div', [x, step], {}, { role: 'steps' })
  const rounded = g.op('Round', [ratio], {}, { role: 'rounded' })
  const clipped = g.op(
    'Clip',
    [rounded, g.scalar(-zeroPoint), g.scalar(qMax(bits) - zeroPoint)],
    {},
    { role: 'clipped' },
  )
  return g.op('Mul', [clipped, step], {}, { role: 'dequantized', dtype: 'float32' })
}

/** x, float32, quantized and dequantized as the format has it. */
export const writeRange = (g: Builder, x: Value, quantizer: FixedQuantizer, format: Format): Value =>
  format === 'portable' ? writeRounded(g, x, quantizer) : writeDequantized(g, writeCodes(g, x, quantizer))
