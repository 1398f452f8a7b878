/**
 * @file Quantizing activations in the user's graph over fixed ranges: ai.onnx QuantizeLinear and DequantizeLinear with one scale and
 * zero point for the whole tensor (uint8 from opset 10 on, uint16 from 21).
 */

import type { Builder } from '../../graph/builder.ts'
import type { Model, Value } from '../../graph/ir.ts'
import { raiseOpset } from '../../graph/passes/raise-opset.ts'
import { floatTensor, type Tensor, tensorOf } from '../../graph/tensor.ts'
import type { FixedQuantizer } from '../../kernels/static-range.ts'
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
export const activationOpset = (quantizer: SiteQuantizer | undefined): number =>
  quantizer?.kind === 'static' && quantizer.bits > 8 ? 21 : 0

/** Raises the model's opset where QuantizeLinear needs it for one of these quantizers. @throws E_UNSUPPORTED as `raiseOpset` does. */
export function raiseForQuantize(model: Model, quantizers: readonly SiteQuantizer[]): void {
  raiseOpset(model, Math.max(0, ...quantizers.map(activationOpset)))
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
export function writeDequantized(g: Builder, { codes, scale, zeroPoint }: WrittenCodes): Value {
  return g.op('DequantizeLinear', [codes, scale, zeroPoint], {}, { role: 'dequantized', dtype: 'float32' })
}
