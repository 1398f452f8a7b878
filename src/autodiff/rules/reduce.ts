/** @file Gradients of sums, means and extrema over axes, and of the softmax family. */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { reductionAxes } from '../../graph/node-arguments.ts'
import { normalizeAxis, staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import { expanded, reshaped, scaled } from '../fragments.ts'
import { single, unary, type VjpRule, type VjpTable } from '../vjp.ts'

/** A reduction's output, or its gradient, with the reduced axes back as size 1. */
function withAxes(g: Builder, node: Node, reduced: Value): Value {
  const axes = reductionAxes(node)
  return reshaped(
    g,
    reduced,
    staticShape(node.inputs[0]!).map((dim, i) => (axes.includes(i) ? 1 : dim)),
  )
}

/** Elements that went into each one of the output. */
function reducedCount(node: Node): number {
  const shape = staticShape(node.inputs[0]!)
  return elementCount(reductionAxes(node).map(axis => shape[axis]!))
}

const reduceSum: VjpRule = single((g, node, dy) => [expanded(g, withAxes(g, node, dy), staticShape(node.inputs[0]!))])

const reduceMean: VjpRule = single((g, node, dy) => [
  expanded(g, scaled(g, withAxes(g, node, dy), 1 / reducedCount(node)), staticShape(node.inputs[0]!)),
])

const reduceSumSquare: VjpRule = single((g, node, dy) => [g.mul(node.inputs[0]!, scaled(g, withAxes(g, node, dy), 2))])

// Elements equal to the extremum share its gradient equally (torch.amax, torch.amin).
const extremum: VjpRule = single((g, node, dy) => {
  const x = node.inputs[0]!
  const axes = reductionAxes(node)
  if (axes.length === 0) return [dy]
  const mask = g.cast(g.op('Equal', [x, withAxes(g, node, node.outputs[0]!)]), x.dtype!)
  return [g.mul(mask, g.div(withAxes(g, node, dy), g.reduceSum(mask, axes)))]
})

const softmaxAxis = (node: Node): number => normalizeAxis(node.int('axis', -1), staticShape(node.inputs[0]!).length)

// dx = y (dy - sum(dy y))
const softmax = (g: Builder, _x: Value, dy: Value, y: Value, node: Node): Value =>
  g.mul(y, g.sub(dy, g.reduceSum(g.mul(dy, y), [softmaxAxis(node)])))

// dx = dy - exp(y) sum(dy)
const logSoftmax = (g: Builder, _x: Value, dy: Value, y: Value, node: Node): Value =>
  g.sub(dy, g.mul(g.op('Exp', [y]), g.reduceSum(dy, [softmaxAxis(node)])))

export const reduceRules: VjpTable = {
  ReduceSum: reduceSum,
  ReduceMean: reduceMean,
  ReduceSumSquare: reduceSumSquare,
  ReduceMax: extremum,
  ReduceMin: extremum,
  Softmax: unary(softmax),
  LogSoftmax: unary(logSoftmax),
}
