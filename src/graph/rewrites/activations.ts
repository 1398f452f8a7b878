/** @file Activations as primitives, in few passes over x: they are the widest tensors of a block. */

import type { Builder } from '../builder.ts'
import type { Value } from '../ir.ts'
import { declined, required, type Rewrite } from './rewrite.ts'

/** x * sigmoid(alpha * x): SiLU for alpha 1 (arXiv:1710.05941), QuickGelu for 1.702 (arXiv:1606.08415, section 2). */
export function swish(g: Builder, x: Value, alpha: number): Value {
  return g.mul(x, g.op('Sigmoid', [alpha === 1 ? x : g.scale(x, alpha)]))
}

/** x * (1 + erf(x / sqrt 2)) / 2 (arXiv:1606.08415, section 2). */
function erfGelu(g: Builder, x: Value): Value {
  const erf = g.op('Erf', [g.scale(x, Math.SQRT1_2)])
  return g.mul(x, g.shift(g.scale(erf, 0.5), 0.5))
}

/**
 * x * (1 + tanh(u)) / 2 with u = sqrt(2 / pi) * (x + 0.044715 x^3).
 * (1 + tanh u) / 2 = sigmoid(2u), which saves two passes and two gradients.
 */
function tanhGelu(g: Builder, x: Value): Value {
  const twiceRoot = 2 * Math.sqrt(2 / Math.PI)
  const twiceU = g.mul(x, g.shift(g.scale(g.mul(x, x), twiceRoot * 0.044715), twiceRoot))
  return g.mul(x, g.op('Sigmoid', [twiceU]))
}

/** Gelu (ONNX 20). */
const gelu: Rewrite = (g, node, inputs) => {
  const x = required(node, inputs, 0, 'X')
  const approximate = node.string('approximate', 'none')
  if (approximate === 'none') return [erfGelu(g, x)]
  if (approximate === 'tanh') return [tanhGelu(g, x)]
  throw declined(node, `approximate = "${approximate}"`)
}

/** Swish (ONNX 24, default alpha 1) and com.microsoft QuickGelu (default alpha 1.702). */
const swishWith =
  (defaultAlpha: number): Rewrite =>
  (g, node, inputs) => [swish(g, required(node, inputs, 0, 'X'), node.float('alpha', defaultAlpha))]

/** com.microsoft FastGelu(x[, bias]) and BiasGelu(x, bias): an optional Add, then the curve. */
const biased =
  (curve: (g: Builder, x: Value) => Value): Rewrite =>
  (g, node, inputs) => {
    const x = required(node, inputs, 0, 'X')
    return [curve(g, inputs[1] ? g.add(x, inputs[1]) : x)]
  }

/** x * clip(x / 6 + 1/2, 0, 1) (ONNX 14; arXiv:1905.02244, section 5.2). */
const hardSwish: Rewrite = (g, node, inputs) => {
  const x = required(node, inputs, 0, 'X')
  const gate = g.op('Clip', [g.shift(g.scale(x, 1 / 6), 0.5), g.scalar(0), g.scalar(1)])
  return [g.mul(x, gate)]
}

/** One row per op kind. */
export const ACTIVATION_REWRITES: Readonly<Record<string, Rewrite>> = {
  Gelu: gelu,
  'com.microsoft.Gelu': biased(erfGelu),
  'com.microsoft.BiasGelu': biased(erfGelu),
  'com.microsoft.FastGelu': biased(tanhGelu),
  'com.microsoft.QuickGelu': swishWith(1.702),
  Swish: swishWith(1),
  HardSwish: hardSwish,
}
