/** @file Rows for the gradients of arithmetic. */

import type { VjpInput, VjpSpec } from '../../helpers/check-vjp.ts'
import { at, c, custom, row, text, type Shape } from './row.ts'

/** The pairs onnxruntime's own gradient tests use. */
const BROADCAST_PAIRS: readonly (readonly [Shape, Shape])[] = [
  [
    [2, 3, 4, 5],
    [2, 3, 4, 5],
  ],
  [[2, 3, 4, 5], []],
  [[], [2, 3, 4, 5]],
  [[2, 3, 4, 5], [5]],
  [
    [4, 5],
    [2, 3, 4, 5],
  ],
  [
    [1, 4, 5],
    [2, 3, 1, 1],
  ],
  [
    [3, 4, 5],
    [2, 1, 1, 1],
  ],
  [
    [2, 1, 1, 5],
    [1, 3, 4, 1],
  ],
]

/** A scalar is kept in the middle, so that it is the larger one of some pairs and the smaller one of others. */
const around = (shape: Shape): VjpInput => at(shape, { range: shape.length === 0 ? [1.2, 1.3] : [0.5, 2] })

const broadcastRows = BROADCAST_PAIRS.flatMap(([a, b]) => [
  ...['Add', 'Sub', 'Mul', 'Div', 'Max', 'Min'].map(op => row(op, [around(a), around(b)])),
  row('Pow', [at(a, { range: [0.5, 2] }), at(b)]),
  custom('Where', `${text(a)} x ${text(b)}`, [at(a), at(b)], (g, x, y) =>
    g.op('Where', [g.op('Greater', [x!, y!]), g.mul(x!, x!), y!]),
  ),
])

const power = (exponent: number, dtype: 'same' | 'int64' = 'same') =>
  custom('Pow', `constant ${exponent}${dtype === 'int64' ? ' int64' : ''}`, [at([2, 3], { range: [0.5, 2] })], (g, x) =>
    g.op('Pow', [x!, g.scalar(exponent, dtype === 'int64' ? 'int64' : x!.dtype)]),
  )

export const elementwiseRows: VjpSpec[] = [
  ...broadcastRows,
  custom('Mul', 'of a value with itself', [at([2, 3])], (g, x) => g.mul(x!, x!)),
  custom('Add', 'of a value with itself', [at([2, 3])], (g, x) => g.add(x!, x!)),
  custom('Mul', 'by a constant', [at([2, 3])], (g, x) => g.scale(x!, 3)),
  row('Div', [at([2, 3]), at([2, 3], { range: [0.5, 2], wrt: false })]),
  row('Div', [at([2, 3], { wrt: false }), at([2, 3], { range: [0.5, 2] })]),
  row('Mul', [at([2, 3], { wrt: false }), at([3])]),
  row('Max', [at([4, 6]), at([6], { range: [0.2, 1.4] }), at([], { range: [0.5, 0.6] })]),
  row('Min', [at([2, 3])]),
  custom('Max', 'with a constant', [at([2, 3], { avoid: [0.1] })], (g, x) => g.op('Max', [x!, c(g, x!, 0.1)])),
  ...[1, 2, 3, 0.5, -1, 2.5].map(exponent => power(exponent)),
  power(2, 'int64'),
  custom('Pow', 'constant exponents of a row', [at([2, 3], { range: [0.5, 2] })], (g, x) =>
    g.op('Pow', [
      x!,
      g.concat(
        [0, 2, 1.5].map(e => g.reshape(c(g, x!, e), [1])),
        0,
      ),
    ]),
  ),
  row('Neg', [at([2, 3])]),
  row('Sqrt', [at([2, 3], { range: [0.5, 2] })]),
  row('Reciprocal', [at([2, 3], { range: [0.5, 2] })]),
  row('Exp', [at([2, 3])]),
  row('Log', [at([2, 3], { range: [0.5, 2] })]),
  row('Sin', [at([2, 3])]),
  row('Cos', [at([2, 3])]),
  row('Abs', [at([2, 3], { avoid: [0] })]),
  row('Identity', [at([2, 3])]),
  custom('Cast', 'float64 to float32 and back', [at([2, 3])], (g, x) => g.cast(g.cast(x!, 'float32'), x!.dtype!), {
    step: 1,
  }),
  custom('Clip', 'both bounds', [at([4, 5], { avoid: [-1, 1] })], (g, x) =>
    g.op('Clip', [x!, c(g, x!, -1), c(g, x!, 1)]),
  ),
  custom('Clip', 'no lower bound', [at([4, 5], { avoid: [1] })], (g, x) => g.op('Clip', [x!, undefined, c(g, x!, 1)])),
  row('Clip', [at([4, 5], { avoid: [-1, 1] }), at([], { range: [-1.01, -0.99] }), at([], { range: [0.99, 1.01] })]),
  custom('Where', 'constant condition', [at([2, 3]), at([3])], (g, x, y) =>
    g.op('Where', [g.cast(g.ints([1, 0, 1]), 'bool'), x!, y!]),
  ),
]
