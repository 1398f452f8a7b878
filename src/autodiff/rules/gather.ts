/** @file Gradients of ops that pick elements or put them somewhere: what was picked goes back, elements picked twice are summed. */

import { QuantError } from '../../errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/ir.ts'
import { constantNumbers, normalizeAxis, type Shape, staticShape } from '../../graph/shape.ts'
import { elementCount } from '../../graph/tensor.ts'
import { embedded, expanded, reshaped, zeros } from '../fragments.ts'
import { single, unary, type VjpRule, type VjpTable } from '../vjp.ts'

/** Beyond this many picks of one row, summing the picks one by one costs more than a scatter. */
const MAX_PICKS = 8

/**
 * Constant indices turned around: the j-th list says, for each row of the data, where its j-th pick lies in the output
 * (`indices.length`, one past the end, when there is none).
 */
function picks(indices: readonly number[], rows: number): number[][] {
  const lists: number[][] = []
  const seen: number[] = Array(rows).fill(0)
  indices.forEach((row, position) => {
    const nth = seen[row]!++
    lists[nth] ??= Array(rows).fill(indices.length)
    lists[nth][row] = position
  })
  return lists
}

/** Gathers from dy instead of scattering into dx: parallel, and the same sum on every device. */
function gatherBack(g: Builder, dy: Value, axis: number, lists: readonly number[][]): Value {
  const count = staticShape(dy)[axis]!
  const complete = lists.every(list => !list.includes(count))
  const source = complete ? dy : embedded(g, dy, axis, 0, count + 1)
  return lists.map(list => g.op('Gather', [source, g.ints(list)], { axis })).reduce((sum, part) => g.add(sum, part))
}

/**
 * ScatterElements, not ScatterND: the CPU kernel of the latter adds from several threads without a lock, so that repeated
 * indices lose updates (onnxruntime issues 18048, 23396).
 */
function scatterAdd(g: Builder, dy: Value, indices: Value, axis: number, shape: Shape): Value {
  const picked = staticShape(dy)
  const alongAxis = reshaped(
    g,
    indices,
    picked.map((dim, i) => (i === axis ? dim : 1)),
  )
  return g.op('ScatterElements', [zeros(g, shape, dy.dtype!), expanded(g, alongAxis, picked), dy], {
    axis,
    reduction: 'add',
  })
}

// x [A.., rows, B..], indices of any shape I.., y [A.., I.., B..]
function gather(g: Builder, x: Value, dy: Value, _y: Value, node: Node): Value {
  const shape = staticShape(x)
  const axis = normalizeAxis(node.int('axis', 0), shape.length)
  const rows = shape[axis]!
  const indices = node.inputs[1]!
  const count = elementCount(staticShape(indices))
  if (count === 0) return zeros(g, shape, x.dtype!)
  const picked = reshaped(g, dy, shape.with(axis, count))
  const constant = constantNumbers(indices)?.map(index => (index < 0 ? index + rows : index))
  if (constant === undefined) return scatterAdd(g, picked, indices, axis, shape)
  const first = constant[0]!
  if (constant.every((index, i) => index === first + i)) return embedded(g, picked, axis, first, rows)
  const lists = picks(constant, rows)
  return lists.length <= MAX_PICKS ? gatherBack(g, picked, axis, lists) : scatterAdd(g, picked, indices, axis, shape)
}

// The values go back to where they were found: indices of one row are distinct.
const topK = single((g, node, dy) => {
  const x = node.inputs[0]!
  const axis = normalizeAxis(node.int('axis', -1), staticShape(x).length)
  return [g.op('ScatterElements', [zeros(g, staticShape(x), dy.dtype!), node.outputs[1], dy], { axis })]
})

// y[i][j] = x[indices[i][j]][j] (axis 0)
function gatherElements(g: Builder, x: Value, dy: Value, _y: Value, node: Node): Value {
  const axis = node.int('axis', 0)
  const inputs = [zeros(g, staticShape(x), dy.dtype!), node.inputs[1], dy]
  return g.op('ScatterElements', inputs, { axis, reduction: 'add' })
}

// y = data, then y[indices[i][j]][j] = updates[i][j], or += with reduction = "add" (axis 0). Without, ONNX 18 wants indices to differ.
const scatterElements: VjpRule = single((g, node, dy, needs) => {
  const [, indices, updates] = node.inputs as [Value, Value, Value]
  const axis = node.int('axis', 0)
  const reduction = node.string('reduction', 'none')
  if (reduction !== 'none' && reduction !== 'add')
    throw new QuantError(
      'E_UNSUPPORTED',
      `no gradient rule for reduction = "${reduction}" of ScatterElements (node "${node.name}")`,
      'Extend the row of ScatterElements in src/autodiff/rules.',
    )
  const replaced = () => g.op('ScatterElements', [dy, indices, zeros(g, staticShape(updates), dy.dtype!)], { axis })
  return [
    needs[0] ? (reduction === 'add' ? dy : replaced()) : undefined,
    undefined,
    needs[2] ? g.op('GatherElements', [dy, indices], { axis }) : undefined,
  ]
})

export const gatherRules: VjpTable = {
  Gather: unary(gather),
  GatherElements: unary(gatherElements),
  ScatterElements: scatterElements,
  TopK: topK,
}
