/** @file Rows for the gradients of matrix products. */

import type { VjpSpec } from '../../helpers/check-vjp.ts'
import { at, row, type Extra, type Shape } from './row.ts'

const MATMUL_PAIRS: readonly (readonly [Shape, Shape])[] = [
  [
    [2, 3],
    [3, 4],
  ],
  [
    [2, 3, 4],
    [4, 5],
  ],
  [
    [2, 3, 4],
    [2, 4, 5],
  ],
  [
    [3, 4],
    [2, 4, 5],
  ],
  [
    [2, 3, 4, 5],
    [2, 3, 5, 2],
  ],
  [
    [2, 3, 4, 5],
    [5, 2],
  ],
  [
    [2, 3, 4, 5],
    [3, 5, 2],
  ],
  [
    [2, 1, 4, 5],
    [1, 3, 5, 2],
  ],
  [
    [4, 5],
    [1, 1, 5, 2],
  ],
  [
    [2, 3, 4],
    [1, 4, 5],
  ],
  [[3], [3]],
  [[3], [3, 4]],
  [[2, 3], [3]],
  [[3], [2, 3, 4]],
  [[2, 4, 3], [3]],
]

// Linear in each operand: a difference over a wide step is exact, also in float32.
const exact: Extra = { dtype: 'float32', step: 1, tolerance: 1e-5 }

export const matMulRows: VjpSpec[] = [
  ...MATMUL_PAIRS.flatMap(([a, b]) => [row('MatMul', [at(a), at(b)]), row('MatMul', [at(a), at(b)], {}, exact)]),
  row('MatMul', [at([2, 3, 4], { wrt: false }), at([4, 5])], {}, exact),
  row('MatMul', [at([2, 3, 4]), at([4, 5], { wrt: false })], {}, exact),
]
