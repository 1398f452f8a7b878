/**
 * @file The way of rows that were chosen at run time through the nodes of a working copy: a table of ops that treat every row by itself.
 * Knows no model.
 */

import { QuantError } from '../../errors.ts'
import type { Node, Value } from '../ir.ts'
import { reductionAxes, sliceRanges, splitSizes } from '../node-arguments.ts'
import { ELEMENTWISE, rowsFor } from '../ops.ts'
import { constantNumbers, normalizeAxis, type Shape, staticShape } from '../shape.ts'
import { elementCount } from '../tensor.ts'
import type { Rows } from './rows.ts'

/** Axis of `to` that `axis` of `from` becomes when one is reshaped into the other; undefined when a Reshape merges or cuts it. */
function keptAxis(from: Shape, to: Shape, axis: number): number | undefined {
  const stride = (shape: Shape, i: number) => elementCount(shape.slice(i + 1))
  const kept = to.findIndex((dim, i) => dim === from[axis] && stride(to, i) === stride(from, axis))
  return kept < 0 ? undefined : kept
}

/**
 * Rows of each output, for `rows` in input `index`; undefined when rows would mix. `known` has the rows of the other inputs.
 */
type RowRule = (node: Node, rows: Rows, index: number, known: ReadonlyRowMap) => (Rows | undefined)[] | undefined

type ReadonlyRowMap = ReadonlyMap<Value, Rows | undefined>

const rank = (value: Value | undefined): number => staticShape(value!).length

/** Elementwise ops; shapes are aligned at their ends. */
const aligned: RowRule = (node, { selection, axis, coordinate }, index) => {
  const isMove = node.kind === 'Expand' || node.kind === 'Cast' || node.kind === 'Identity'
  const moved = axis + rank(node.outputs[0]) - rank(node.inputs[index])
  return [{ selection, axis: moved, coordinate: isMove ? coordinate : undefined }]
}

const reshaped: RowRule = (node, rows) => {
  const [from, to] = [staticShape(node.inputs[0]!), staticShape(node.outputs[0]!)]
  const at = (axis: number | undefined) => (axis === undefined ? undefined : keptAxis(from, to, axis))
  const axis = at(rows.axis)
  return axis === undefined ? undefined : [{ ...rows, axis, coordinates: at(rows.coordinates) }]
}

/** Ops that work along other axes than that of the rows. */
const along =
  (axes: (node: Node) => readonly number[]): RowRule =>
  (node, { selection, axis }) =>
    axes(node).includes(axis) ? undefined : [{ selection, axis }]

const axisOf =
  (fallback: number) =>
  (node: Node): number[] => [normalizeAxis(node.int('axis', fallback), rank(node.outputs[0]))]

/** Reductions along other axes than that of the rows. */
const reduced: RowRule = (node, { selection, axis }) => {
  const axes = reductionAxes(node)
  if (axes.includes(axis)) return undefined
  const before = axes.filter(other => other < axis).length
  return [{ selection, axis: node.int('keepdims', 1) ? axis : axis - before }]
}

const ROW_RULES: Readonly<Record<string, RowRule>> = {
  ...rowsFor(ELEMENTWISE, aligned),
  ...rowsFor(['view'], reshaped),
  ...rowsFor(['reduction'], reduced),
  Expand: aligned,
  Softmax: along(axisOf(-1)),
  Concat: along(axisOf(0)),
  Slice: along(node => sliceRanges(node).map(({ axis }) => axis)),
  Transpose: (node, rows) => {
    const perm = node.ints('perm') ?? staticShape(node.inputs[0]!).map((_, i, all) => all.length - 1 - i)
    const { coordinates } = rows
    return [
      {
        ...rows,
        axis: perm.indexOf(rows.axis),
        coordinates: coordinates === undefined ? undefined : perm.indexOf(coordinates),
      },
    ]
  },
  Split: (node, { selection, axis, coordinates }) => {
    const [along] = axisOf(0)(node)
    if (along === axis) return undefined
    const single = along === coordinates && splitSizes(node).every(size => size === 1)
    return node.outputs.map((_, i) => ({ selection, axis, coordinate: single ? i : undefined }))
  },
  Gather: (node, { selection, axis, coordinates }, index, known) => {
    const [data, indices] = node.inputs as [Value, Value]
    const along = normalizeAxis(node.int('axis', 0), rank(data))
    if (index === 1) return [{ selection, axis: along + axis }]
    if (along === axis || known.get(indices)) return undefined
    const [only, ...others] = constantNumbers(indices) ?? []
    const coordinate = along === coordinates && others.length === 0 ? only : undefined
    return [{ selection, axis: along < axis ? axis + rank(indices) - 1 : axis, coordinate }]
  },
  MatMul: (node, { selection, axis }, index) =>
    index === 1 || axis === rank(node.inputs[0]) - 1
      ? undefined
      : [{ selection, axis: axis + rank(node.outputs[0]) - rank(node.inputs[0]) }],
}

/**
 * Rows of each output of a node; empty when no input has rows. `known` has the rows of the inputs.
 * @throws E_UNSUPPORTED when the node would mix rows: some of them were not chosen.
 */
export function rowsThrough(known: ReadonlyRowMap, node: Node): (Rows | undefined)[] {
  const results = node.inputs.flatMap((value, index) => {
    const rows = value && known.get(value)
    return rows ? [ROW_RULES[node.kind]?.(node, rows, index, known)] : []
  })
  if (results.length === 0) return []
  const [first] = results
  const agree = results.every(
    result => result?.[0]?.axis === first?.[0]?.axis && result?.[0]?.selection === first?.[0]?.selection,
  )
  if (first?.[0] && agree) return first
  throw new QuantError(
    'E_UNSUPPORTED',
    `${node.kind} "${node.name}" reads rows chosen at run time in a way that is not understood`,
    'omniquant knows mixtures of experts that treat every token by itself.',
  )
}
