/**
 * @file Rows that are chosen at run time (NonZero of a mask over tokens, as in a mixture of experts), in a working copy, whose shapes are
 * fixed: every row goes through, and those that were not chosen are dropped where rows are put back. That is the same sum, as long as no
 * row sees another on the way, which is checked node by node. Knows no model.
 */

import { QuantError } from '../../errors.ts'
import type { Builder } from '../builder.ts'
import type { Node, Value } from '../ir.ts'
import { reductionAxes, sliceRanges, splitSizes } from '../node-arguments.ts'
import { ELEMENTWISE, rowsFor } from '../ops.ts'
import { constantNumbers, normalizeAxis, type Shape, staticShape } from '../shape.ts'
import { elementCount, int64Tensor } from '../tensor.ts'
import { declined, required, type Rewrite } from './rewrite.ts'

interface Selection {
  /** Which rows were chosen: bool [rows]. */
  readonly chosen: Value
  /** Which of the two coordinates NonZero gives is the row: the other is looked up for it. */
  readonly rowCoordinate: number
}

/** A value with one entry per row of a selection. */
interface Rows {
  readonly selection: Selection
  readonly axis: number
  /** Axis of the coordinates, in what NonZero gave. */
  readonly coordinates?: number | undefined
  /** The one coordinate it holds, if it is that and nothing else. */
  readonly coordinate?: number | undefined
}

/** null: rows end here. */
const ROWS = new WeakMap<Value, Rows | null>()

const rowsOf = (value: Value | undefined): Rows | undefined => (value && ROWS.get(value)) ?? undefined

/**
 * The axis of a boolean mask along which at most one element is set, because the mask says at which of the places of a TopK an index
 * stands: those are distinct. @returns undefined when the graph does not show it.
 */
function exclusiveAxis(mask: Value): number | undefined {
  /** For each axis of `value` the axis of the mask it is. */
  let axes: (number | undefined)[] = staticShape(mask).map((_, i) => i)
  for (let value = mask; value.producer;) {
    const { producer } = value
    const [input, second] = producer.inputs as [Value, Value | undefined]
    switch (producer.kind) {
      case 'Cast':
        break
      case 'Transpose': {
        const perm = producer.ints('perm') ?? axes.map((_, i) => axes.length - 1 - i)
        axes = perm.map((_, axis) => axes[perm.indexOf(axis)])
        break
      }
      case 'Gather': {
        if (constantNumbers(second)?.length !== 1) return undefined
        const axis = normalizeAxis(producer.int('axis', 0), staticShape(input).length)
        axes = axes.toSpliced(axis, staticShape(second!).length, undefined)
        break
      }
      case 'Equal':
        if (constantNumbers(second)?.length !== 1 || staticShape(input).length !== axes.length) return undefined
        break
      case 'OneHot': {
        const axis = normalizeAxis(producer.int('axis', -1), axes.length)
        if (axes[axis] !== undefined) return undefined
        axes = axes.toSpliced(axis, 1)
        break
      }
      case 'TopK':
        if (producer.outputs[1] !== value) return undefined
        return axes[normalizeAxis(producer.int('axis', -1), axes.length)]
      default:
        return undefined
    }
    value = input
  }
  return undefined
}

/** NonZero (ONNX 13) of a mask [a, b] with at most one element set per row: for every row that element, or the first for none. */
const nonZero: Rewrite = (g, node, inputs) => {
  const mask = required(node, inputs, 0, 'X')
  const shape = staticShape(mask)
  const exclusive = exclusiveAxis(mask)
  if (shape.length !== 2 || exclusive === undefined)
    throw declined(node, 'a shape that depends on data, other than that of rows chosen by a TopK,')
  const count = shape[1 - exclusive]!
  const numbers = g.cast(mask, 'float32')
  const chosen = g.cast(g.op('ReduceMax', [numbers, g.ints([exclusive])], { keepdims: 0 }), 'bool')
  const place = g.reshape(g.op('ArgMax', [numbers], { axis: exclusive, keepdims: 0 }), [1, count])
  const row = g.initializer('every_row', int64Tensor([1, count], Array(count).keys()))
  const positions = g.concat(exclusive === 0 ? [place, row] : [row, place], 0)
  ROWS.set(positions, { selection: { chosen, rowCoordinate: 1 - exclusive }, axis: 1, coordinates: 0 })
  return [positions]
}

/** Whether the indices are those of all rows in order, as many as `data` has on that axis. */
const isEveryRow = (rows: Rows | undefined, data: Value, axis: number): boolean =>
  rows !== undefined &&
  rows.coordinate === rows.selection.rowCoordinate &&
  staticShape(data)[axis] === staticShape(rows.selection.chosen)[0]

/** Gather of chosen rows: all of them, in their order. @returns undefined for any other Gather. */
export function gatherRows(g: Builder, node: Node, [data, indices]: readonly (Value | undefined)[]): Value | undefined {
  const rows = rowsOf(indices)
  if (!rows || staticShape(indices!).length !== 1) return undefined
  const axis = normalizeAxis(node.int('axis', 0), staticShape(data!).length)
  if (!isEveryRow(rows, data!, axis)) return undefined
  const gathered = g.op('Identity', [data])
  ROWS.set(gathered, { selection: rows.selection, axis })
  return gathered
}

/** ScatterElements (ONNX 18) of chosen rows, one index per row. Any other one stays as it is. */
const scatterElements: Rewrite = (g, node, inputs) => {
  const [data, indices, updates] = inputs as [Value, Value, Value]
  const rows = rowsOf(indices)
  if (!rows) return g.copy(node, inputs)
  const reduction = node.string('reduction', 'none')
  const axis = normalizeAxis(node.int('axis', 0), staticShape(data).length)
  const source = rowsOf(updates)
  if (
    !isEveryRow(rows, data, axis) ||
    rows.axis !== axis ||
    source?.selection !== rows.selection ||
    source.axis !== axis
  )
    throw declined(node, 'a place for chosen rows other than the one they came from')
  if (reduction !== 'none' && reduction !== 'add') throw declined(node, `reduction = "${reduction}" of chosen rows`)
  const shape = staticShape(updates)
  const { chosen } = rows.selection
  const condition = g.reshape(
    chosen,
    shape.map((dim, i) => (i === axis ? dim : 1)),
  )
  const kept = g.op('Where', [condition, updates, reduction === 'add' ? g.scalar(0, updates.dtype) : data])
  ROWS.set(kept, null)
  return [reduction === 'add' ? g.add(data, kept) : kept]
}

/** Axis of `to` that `axis` of `from` becomes when one is reshaped into the other; undefined when it is merged or cut. */
function keptAxis(from: Shape, to: Shape, axis: number): number | undefined {
  const stride = (shape: Shape, i: number) => elementCount(shape.slice(i + 1))
  const kept = to.findIndex((dim, i) => dim === from[axis] && stride(to, i) === stride(from, axis))
  return kept < 0 ? undefined : kept
}

/** Where the rows of an input are in the outputs; undefined when rows would mix. */
type RowRule = (node: Node, rows: Rows, index: number) => (Rows | undefined)[] | undefined

const rank = (value: Value | undefined): number => staticShape(value!).length

/** Element by element, shapes aligned at their ends. */
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

/** Ops along an axis that is not the rows'. */
const along =
  (axes: (node: Node) => readonly number[]): RowRule =>
  (node, { selection, axis }) =>
    axes(node).includes(axis) ? undefined : [{ selection, axis }]

const axisOf =
  (fallback: number) =>
  (node: Node): number[] => [normalizeAxis(node.int('axis', fallback), rank(node.outputs[0]))]

/** Axes are input 1. */
const reduced: RowRule = (node, { selection, axis }) => {
  const axes = reductionAxes(node)
  if (axes.includes(axis)) return undefined
  const before = axes.filter(each => each < axis).length
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
  Gather: (node, { selection, axis, coordinates }, index) => {
    const [data, indices] = node.inputs as [Value, Value]
    const along = normalizeAxis(node.int('axis', 0), rank(data))
    if (index === 1) return [{ selection, axis: along + axis }]
    if (along === axis || rowsOf(indices)) return undefined
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
 * Follows chosen rows through a node of the working copy. Does nothing where there are none.
 * @throws E_UNSUPPORTED when the node would let rows see each other: among them are some that were not chosen.
 */
export function followRows(node: Node): void {
  const [output] = node.outputs
  if (!output || ROWS.has(output)) return
  const read = node.inputs.flatMap((value, index) => {
    const rows = rowsOf(value)
    return rows ? [{ rows, index }] : []
  })
  if (read.length === 0) return
  const results = read.map(({ rows, index }) => ROW_RULES[node.kind]?.(node, rows, index))
  const [first] = results
  const agree = results.every(
    result => result?.[0]?.axis === first?.[0]?.axis && result?.[0]?.selection === first?.[0]?.selection,
  )
  if (!first?.[0] || !agree) {
    throw new QuantError(
      'E_UNSUPPORTED',
      `${node.kind} "${node.name}" reads rows chosen at run time in a way that is not understood`,
      'omniquant knows mixtures of experts that treat every token by itself.',
    )
  }
  node.outputs.forEach((value, i) => {
    if (value && first[i]) ROWS.set(value, first[i])
  })
}

export const SELECTION_REWRITES: Readonly<Record<string, Rewrite>> = {
  NonZero: nonZero,
  ScatterElements: scatterElements,
}
