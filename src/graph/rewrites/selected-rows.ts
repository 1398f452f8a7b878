/**
 * @file Ops that choose rows at run time and put them back: NonZero of a mask over tokens, Gather and ScatterElements, as in a mixture of
 * experts. Shapes of a working copy are fixed, so every row goes through the experts, and rows that were not chosen are dropped where
 * rows are put back. The sum is the same as long as no row mixes with another on the way; row-rules.ts checks that. Knows no model.
 */

import type { Node, Value } from '../ir.ts'
import { constantNumbers, normalizeAxis, staticShape } from '../shape.ts'
import { int64Tensor } from '../tensor.ts'
import type { RewriteBuilder } from './rewrite-builder.ts'
import { declined, required, type Rewrite } from './rewrite.ts'
import type { Rows } from './rows.ts'

const rowsOf = (g: RewriteBuilder, value: Value | undefined): Rows | undefined => value && g.rows.get(value)

/**
 * Axis of a boolean mask along which at most one element is set. The mask compares an index with the indices of a TopK, which are
 * distinct along the axis of the TopK. @returns undefined when the graph does not show it.
 */
function exclusiveAxis(mask: Value): number | undefined {
  /** Axis of the mask for each axis of `value`. */
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

/** NonZero (ONNX 13) of a mask [a, b] with at most one element set per row. Gives that element for every row; the first one for rows without. */
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
  g.rows.set(positions, { selection: { chosen, rowCoordinate: 1 - exclusive }, axis: 1, coordinates: 0 })
  return [positions]
}

/** True if the indices are those of all rows in order, and `data` has as many rows on that axis. */
const isEveryRow = (rows: Rows | undefined, data: Value, axis: number): boolean =>
  rows !== undefined &&
  rows.coordinate === rows.selection.rowCoordinate &&
  staticShape(data)[axis] === staticShape(rows.selection.chosen)[0]

/** Gather of chosen rows: all rows, in their order. @returns undefined for any other Gather. */
export function gatherRows(g: RewriteBuilder, node: Node, inputs: readonly (Value | undefined)[]): Value | undefined {
  const [data, indices] = inputs
  const rows = rowsOf(g, indices)
  if (!rows || staticShape(indices!).length !== 1) return undefined
  const axis = normalizeAxis(node.int('axis', 0), staticShape(data!).length)
  if (!isEveryRow(rows, data!, axis)) return undefined
  const gathered = g.op('Identity', [data])
  g.rows.set(gathered, { selection: rows.selection, axis })
  return gathered
}

/** ScatterElements (ONNX 18) of chosen rows, one index per row. Others are copied. */
const scatterElements: Rewrite = (g, node, inputs) => {
  const [data, indices, updates] = inputs as [Value, Value, Value]
  const rows = rowsOf(g, indices)
  if (!rows) return g.copy(node, inputs)
  const reduction = node.string('reduction', 'none')
  const axis = normalizeAxis(node.int('axis', 0), staticShape(data).length)
  const source = rowsOf(g, updates)
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
  g.rows.set(kept, undefined)
  return [reduction === 'add' ? g.add(data, kept) : kept]
}

/** One row per op kind. Gather is in linear.ts. */
export const SELECTION_REWRITES: Readonly<Record<string, Rewrite>> = {
  NonZero: nonZero,
  ScatterElements: scatterElements,
}
