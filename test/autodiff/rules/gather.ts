/** @file Rows for the gradients of Gather, GatherElements, ScatterElements and TopK. */

import { int64Tensor } from '../../../src/graph/tensor.ts'
import type { VjpSpec } from '../../helpers/check-vjp.ts'
import { at, custom, text, type Shape } from './row.ts'

const gathered = (shape: Shape, indices: readonly number[], indexShape: Shape, axis: number) =>
  custom('Gather', `${text(shape)} at ${text(indices)} as ${text(indexShape)} axis ${axis}`, [at(shape)], (g, x) =>
    g.op('Gather', [x!, g.initializer('indices', int64Tensor(indexShape, indices))], { axis }),
  )

/** Indices no rule can know: computed by the graph. */
const gatheredAtRuntime = (shape: Shape, indices: readonly number[], indexShape: Shape, axis: number) =>
  custom('Gather', `${text(shape)} at run-time ${text(indices)} axis ${axis}`, [at(shape)], (g, x) => {
    const constant = g.initializer('indices', int64Tensor(indexShape, indices))
    return g.op('Gather', [x!, g.op('Identity', [constant])], { axis })
  })

const largest = (shape: Shape, k: number, axis: number, attributes: Record<string, number> = {}) =>
  custom('TopK', `${k} of ${text(shape)} axis ${axis}`, [at(shape)], (g, x) => {
    const [values] = g.ops('TopK', [x!, g.ints([k])], 2, { axis, ...attributes })
    return values!
  })

const gatheredElements = (shape: Shape, indices: readonly number[], indexShape: Shape, axis: number) =>
  custom('GatherElements', `${text(shape)} at ${text(indices)} axis ${axis}`, [at(shape)], (g, x) =>
    g.op('GatherElements', [x!, g.initializer('indices', int64Tensor(indexShape, indices))], { axis }),
  )

const scattered = (shape: Shape, indices: readonly number[], indexShape: Shape, axis: number, reduction?: 'add') => {
  const title = `${text(indexShape)} into ${text(shape)} at ${text(indices)} axis ${axis} ${reduction ?? ''}`
  return custom('ScatterElements', title, [at(shape), at(indexShape)], (g, data, updates) => {
    const constant = g.initializer('indices', int64Tensor(indexShape, indices))
    return g.op('ScatterElements', [data!, constant, updates!], { axis, ...(reduction && { reduction }) })
  })
}

export const gatherRows: VjpSpec[] = [
  gatheredElements([4, 3], [3, 0, 1, 1, 0, -1], [2, 3], 0),
  gatheredElements([3, 5], [4, 4, 2, 0, 1, -2], [3, 2], -1),
  scattered([3, 5], [4, 1, 2, 0, 1, -2], [3, 2], 1),
  scattered([4, 3], [3, 0, 1, 3, 0, -3], [2, 3], 0, 'add'),
  largest([3, 5], 2, -1),
  largest([4, 3, 2], 3, 0, { largest: 0 }),
  gathered([4, 3], [1], [], 0),
  gathered([4, 3], [1, 2, 3], [3], 0),
  gathered([4, 3], [-1, 0, 2], [3], 0),
  gathered([4, 3], [3, 2, 1, 0], [2, 2], 0),
  gathered([2, 3, 4], [0, 0, 1, 1, 2, 2], [6], 1),
  gathered([2, 3, 4], [2, -4, 1, 2], [2, 2], -1),
  gathered([3, 2], Array(10).fill(1), [10], 0),
  gatheredAtRuntime([4, 3], [1, 1, 3], [3], 0),
  gatheredAtRuntime([2, 3, 4], [2, -3, 2, 0], [2, 2], 1),
  gatheredAtRuntime([2, 3], [1], [], 1),
]
