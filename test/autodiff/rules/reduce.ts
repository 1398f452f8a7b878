/** @file Rows for the gradients of reductions and softmax. */

import type { VjpSpec } from '../../helpers/check-vjp.ts'
import { at, custom, row, text, type Shape } from './row.ts'

/** A reduction over constant axes. */
const reduction = (kind: string, shape: Shape, axes: readonly number[] | undefined, keepdims = 1) =>
  custom(kind, `${text(shape)} axes ${axes ? text(axes) : 'all'} keepdims ${keepdims}`, [at(shape)], (g, x) =>
    g.op(kind, [x!, axes && g.ints(axes)], { keepdims }),
  )

export const reduceRows: VjpSpec[] = [
  ...['ReduceSum', 'ReduceMean', 'ReduceSumSquare', 'ReduceMax', 'ReduceMin'].flatMap(kind => [
    reduction(kind, [2, 3, 4], [-1]),
    reduction(kind, [2, 3, 4], [1], 0),
    reduction(kind, [2, 3, 4], [0, 2], 0),
    reduction(kind, [2, 3, 4], undefined, 0),
    reduction(kind, [2, 1, 4], [1]),
  ]),
  custom('ReduceSum', 'no axes, no operation', [at([2, 3])], (g, x) =>
    g.op('ReduceSum', [x!], { noop_with_empty_axes: 1 }),
  ),
  ...['Softmax', 'LogSoftmax'].flatMap(kind => [
    row(kind, [at([2, 3, 4])]),
    row(kind, [at([2, 3, 4])], { axis: 1 }),
    row(kind, [at([2, 3, 4])], { axis: 0 }),
  ]),
]
