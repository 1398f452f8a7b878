/** @file Gradients of LayerNormalization and of the root-mean-square norms. */

import type { Builder } from '../../graph/builder.ts'
import { type Node, Value } from '../../graph/ir.ts'
import { normalizeAxis, staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import { scaled } from '../fragments.ts'
import { single, type VjpRule, type VjpTable } from '../vjp.ts'

interface Normalized {
  /** x with its mean removed (LayerNormalization), or x. */
  readonly centered: Value
  /** 1 / sqrt(mean(centered^2) + epsilon), normalized axes of size 1. */
  readonly inverseStd: Value
}

/** Axes that are normalized together: `axis` and all after it. */
function normalizedAxes(node: Node): number[] {
  const rank = staticShape(node.inputs[0]!).length
  const axis = normalizeAxis(node.int('axis', -1), rank)
  return Array.from({ length: rank - axis }, (_, i) => axis + i)
}

/** An optional float32 output of the forward node, added when the node does not give it yet: cheaper than computing it. */
function statistic(g: Builder, node: Node, index: number, name: string): Value {
  const axes = normalizedAxes(node)
  const value = node.outputs[index] ?? new Value(g.names.fresh(name))
  value.dtype = 'float32'
  value.shape = staticShape(node.inputs[0]!).map((dim, i) => (axes.includes(i) ? 1 : dim))
  value.producer = node
  while (node.outputs.length < index) node.outputs.push(undefined)
  node.outputs[index] = value
  return value
}

/** Statistics computed again, for types in which the kernels do not give them. */
function recomputed(g: Builder, node: Node, centered: Value): Normalized {
  const axes = normalizedAxes(node)
  const count = elementCount(axes.map(axis => staticShape(centered)[axis]!))
  const meanSquare = scaled(g, g.op('ReduceSumSquare', [centered, g.ints(axes)]), 1 / count)
  const std = g.op('Sqrt', [g.shift(meanSquare, node.float('epsilon', 1e-5))])
  return { centered, inverseStd: g.op('Reciprocal', [std]) }
}

function layerNormalized(g: Builder, node: Node): Normalized {
  const x = node.inputs[0]!
  if (x.dtype !== 'float32') return recomputed(g, node, g.sub(x, g.reduceMean(x, normalizedAxes(node))))
  const centered = g.sub(x, statistic(g, node, 1, 'mean'))
  return { centered, inverseStd: statistic(g, node, 2, 'inv_std') }
}

function rootMeanSquareNormalized(g: Builder, node: Node): Normalized {
  const x = node.inputs[0]!
  // RMSNormalization of opset 23 has one output only.
  if (x.dtype !== 'float32' || node.opType !== 'SimplifiedLayerNormalization') return recomputed(g, node, x)
  return { centered: x, inverseStd: statistic(g, node, 1, 'inv_std') }
}

/**
 * y = n scale + bias with n = centered * r, r = inverseStd. With dn = dy scale:
 * dx = r (dn - n mean(dn n) [- mean(dn), where the mean was removed]), dscale = sum(dy n), dbias = sum(dy).
 */
function normalization(normalize: (g: Builder, node: Node) => Normalized, removesMean: boolean): VjpRule {
  return single((g, node, dy, needs) => {
    if (!needs[0] && !needs[1]) return [undefined, undefined, dy]
    const { centered, inverseStd } = normalize(g, node)
    const n = g.mul(centered, inverseStd)
    const dscale = needs[1] ? g.mul(dy, n) : undefined
    if (!needs[0]) return [undefined, dscale, dy]
    const axes = normalizedAxes(node)
    const dn = g.mul(dy, node.inputs[1]!)
    const alongN = g.sub(dn, g.mul(n, g.reduceMean(g.mul(dn, n), axes)))
    const inner = removesMean ? g.sub(alongN, g.reduceMean(dn, axes)) : alongN
    return [g.mul(inverseStd, inner), dscale, dy]
  })
}

export const normalizationRules: VjpTable = {
  LayerNormalization: normalization(layerNormalized, true),
  SimplifiedLayerNormalization: normalization(rootMeanSquareNormalized, false),
  RMSNormalization: normalization(rootMeanSquareNormalized, false),
}
