/** @file Rows for the gradients of ops that move elements. */

import type { AttributeInput } from '../../../src/graph/builder.ts'
import type { VjpSpec } from '../../helpers/check-vjp.ts'
import { at, custom, row, text, type Shape } from './row.ts'

/** An op whose further inputs are constant integers. */
const moved = (
  kind: string,
  shape: Shape,
  ints: readonly (readonly number[])[],
  attributes: Record<string, AttributeInput> = {},
) =>
  custom(
    kind,
    [text(shape), ...ints.map(text), ...Object.entries(attributes).map(([k, v]) => `${k}=${String(v)}`)].join(' '),
    [at(shape)],
    (g, x) => g.op(kind, [x!, ...ints.map(values => g.ints(values))], attributes),
  )

export const movementRows: VjpSpec[] = [
  moved('Reshape', [2, 6], [[3, -1]]),
  moved('Reshape', [2, 6], [[0, 2, 3]]),
  row('Transpose', [at([2, 3, 4])]),
  row('Transpose', [at([2, 3, 4, 5])], { perm: [2, 0, 3, 1] }),
  row('Transpose', [at([2, 3, 4])], { perm: [0, 2, 1] }),
  custom('Transpose', 'of a weight in a product', [at([2, 3, 4]), at([5, 4])], (g, x, w) =>
    g.matMul(x!, g.transpose(w!, [1, 0])),
  ),
  custom('Transpose', 'of keys in a product', [at([2, 3, 4]), at([2, 5, 4])], (g, q, k) =>
    g.matMul(q!, g.transposeLast(k!)),
  ),
  row('Flatten', [at([2, 3, 4])]),
  row('Flatten', [at([2, 3, 4])], { axis: -1 }),
  row('Flatten', [at([2, 3, 4])], { axis: 0 }),
  moved('Squeeze', [2, 1, 3, 1], [[1, -1]]),
  row('Squeeze', [at([2, 1, 3, 1])]),
  moved('Unsqueeze', [2, 3], [[0, -1]]),
  moved('Expand', [2, 1, 3], [[4, 2, 5, 3]]),
  moved('Expand', [2, 3], [[1, 1]]),
  row('Concat', [at([2, 3]), at([2, 1]), at([2, 4])], { axis: -1 }),
  row('Concat', [at([2, 3]), at([1, 3], { wrt: false }), at([4, 3])], { axis: 0 }),
  row('Concat', [at([2, 3])], { axis: 0 }),
  custom('Concat', 'of a value with itself', [at([2, 3])], (g, x) => g.concat([x!, g.neg(x!), x!], 1)),
  moved('Slice', [4, 5], [[1], [3]]),
  moved(
    'Slice',
    [4, 5],
    [
      [-3, 1],
      [100, -1],
      [1, 0],
    ],
  ),
  moved('Slice', [2, 7], [[1], [7], [1], [2]]),
  moved('Slice', [2, 7], [[0], [7], [1], [3]]),
  moved('Slice', [2, 8], [[1], [8], [-1], [2]]),
  moved('Slice', [2, 7], [[-1], [-100], [1], [-1]]),
  moved(
    'Slice',
    [5, 7],
    [
      [4, 5],
      [0, 1],
      [0, 1],
      [-2, -3],
    ],
  ),
  custom('Slice', 'halves that cover the input', [at([2, 3, 6])], (g, x) =>
    g.concat([g.neg(g.slice(x!, 2, 3, 6)), g.slice(x!, 2, 0, 3)], 2),
  ),
  custom('Slice', 'pieces that overlap', [at([2, 6])], (g, x) =>
    g.add(g.slice(x!, 1, 0, 4), g.mul(g.slice(x!, 1, 2, 6), g.slice(x!, 1, 0, 4))),
  ),
  custom('Slice', 'pieces along two axes', [at([4, 4])], (g, x) =>
    g.matMul(g.slice(x!, 1, 0, 2), g.slice(x!, 0, 2, 4)),
  ),
  custom('Slice', 'even and odd', [at([2, 6])], (g, x) => g.mul(g.slice(x!, 1, 0, 6, 2), g.slice(x!, 1, 1, 6, 2))),
  custom('Split', 'into sizes', [at([2, 6])], (g, x) => g.ops('Split', [x!, g.ints([1, 3, 2])], 3, { axis: 1 })),
  custom(
    'Split',
    'equal parts of which one is used',
    [at([6, 2])],
    (g, x) => g.ops('Split', [x!], 3, { axis: 0, num_outputs: 3 })[1]!,
  ),
  custom('Split', 'of which two of three are used', [at([2, 7])], (g, x) => {
    const [a, , b] = g.ops('Split', [x!, g.ints([1, 3, 3])], 3, { axis: -1 })
    return g.mul(a!, b!)
  }),
  moved('Tile', [2, 3], [[2, 1]]),
  moved('Tile', [2, 3], [[3, 2]]),
  moved('Tile', [2, 3], [[1, 1]]),
  moved('Pad', [2, 3], [[1, 0, 2, 4]]),
  moved('Pad', [4, 5], [[-1, 2, 1, -2]]),
  custom('Pad', 'named axes, learned fill', [at([2, 3]), at([])], (g, x, fill) =>
    g.op('Pad', [x!, g.ints([1, 2]), fill, g.ints([-1])]),
  ),
]
