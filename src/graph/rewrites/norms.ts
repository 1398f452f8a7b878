/** @file Normalizations as primitives: RMSNorm, LayerNorm, and the fused ops that add the residual first. */

import type { Builder } from '../builder.ts'
import type { Node, Value } from '../ir.ts'
import { normalizeAxis, staticShape } from '../shape.ts'
import { required, type Rewrite } from './rewrite.ts'

/** Axes from `axis` (counted from either end) to the last. */
function axesFrom(x: Value, axis: number): number[] {
  const rank = staticShape(x).length
  const first = normalizeAxis(axis, rank)
  return Array.from({ length: rank - first }, (_, i) => first + i)
}

/** 1 / sqrt(mean(x^2) + epsilon). The root and the reciprocal touch one number per row, so that x itself is only multiplied. */
function inverseRms(g: Builder, x: Value, axes: readonly number[], epsilon: number): Value {
  const meanSquare = g.reduceMean(g.mul(x, x), axes)
  return g.op('Reciprocal', [g.op('Sqrt', [g.shift(meanSquare, epsilon)])])
}

/** x / sqrt(mean(x^2, axes) + epsilon) * gain; x of any shape, gain of the shape of the axes normalized (arXiv:1910.07467, eq. 4). */
export function rmsNorm(g: Builder, x: Value, gain: Value | undefined, epsilon: number, axis = -1): Value {
  const normalized = g.mul(x, inverseRms(g, x, axesFrom(x, axis), epsilon))
  return gain ? g.mul(normalized, gain) : normalized
}

/** (x - mean) / sqrt(variance + epsilon) * gain + bias (arXiv:1607.06450, eq. 4; the variance is the biased one). */
function layerNorm(
  g: Builder,
  x: Value,
  gain: Value | undefined,
  bias: Value | undefined,
  epsilon: number,
  axis = -1,
): Value {
  const axes = axesFrom(x, axis)
  const centred = g.sub(x, g.reduceMean(x, axes))
  const normalized = g.mul(centred, inverseRms(g, centred, axes, epsilon))
  const scaled = gain ? g.mul(normalized, gain) : normalized
  return bias ? g.add(scaled, bias) : scaled
}

/** RMSNormalization (ONNX 23) and its older name. Outputs: y; inv_std is not written. */
const rmsNormalization: Rewrite = (g, node, inputs) => [
  rmsNorm(g, required(node, inputs, 0, 'X'), inputs[1], node.float('epsilon', 1e-5), node.int('axis', -1)),
]

/** LayerNormalization (ONNX 17). Outputs: y; mean and inv_std are not written. */
const layerNormalization: Rewrite = (g, node, inputs) => [
  layerNorm(g, required(node, inputs, 0, 'X'), inputs[1], inputs[2], node.float('epsilon', 1e-5), node.int('axis', -1)),
]

/** input + skip [+ bias]: the residual stream, which the fused ops also give away as output 3. */
function residualSum(g: Builder, node: Node, inputs: readonly (Value | undefined)[], bias: Value | undefined): Value {
  const sum = g.add(required(node, inputs, 0, 'input'), required(node, inputs, 1, 'skip'))
  return bias ? g.add(sum, bias) : sum
}

/** com.microsoft SkipSimplifiedLayerNormalization(input, skip, gamma[, bias]). Outputs: y, -, -, sum. */
const skipRmsNormalization: Rewrite = (g, node, inputs) => {
  const sum = residualSum(g, node, inputs, inputs[3])
  return [rmsNorm(g, sum, inputs[2], node.float('epsilon', 1e-12)), undefined, undefined, sum]
}

/** com.microsoft SkipLayerNormalization(input, skip, gamma[, beta, bias]). Outputs: y, -, -, sum. */
const skipLayerNormalization: Rewrite = (g, node, inputs) => {
  const sum = residualSum(g, node, inputs, inputs[4])
  return [layerNorm(g, sum, inputs[2], inputs[3], node.float('epsilon', 1e-12)), undefined, undefined, sum]
}

/** One row per op kind. */
export const NORM_REWRITES: Readonly<Record<string, Rewrite>> = {
  RMSNormalization: rmsNormalization,
  SimplifiedLayerNormalization: rmsNormalization,
  'com.microsoft.SimplifiedLayerNormalization': rmsNormalization,
  LayerNormalization: layerNormalization,
  'com.microsoft.SkipSimplifiedLayerNormalization': skipRmsNormalization,
  'com.microsoft.SkipLayerNormalization': skipLayerNormalization,
}
