/** @file Rows for the gradients of matrix products. */

import { float } from '../../../src/graph/builder.ts'
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
  ...[0, 1].flatMap(transA =>
    [0, 1].flatMap(transB => {
      const a = transA ? [4, 3] : [3, 4]
      const b = transB ? [5, 4] : [4, 5]
      const attributes = { transA, transB, alpha: float(0.5) }
      return [
        row('Gemm', [at(a), at(b), at([5])], { ...attributes, beta: float(2) }),
        row('Gemm', [at(a), at(b)], attributes, exact),
        // FusedMatMul has no float64 kernel
        row('com.microsoft.FusedMatMul', [at(a), at(b)], attributes, exact),
        row('com.microsoft.FusedMatMul', [at([2, 3, ...a]), at([2, 3, ...b])], attributes, exact),
        row('com.microsoft.FusedMatMul', [at([2, 3, ...a]), at([1, 3, ...b])], attributes, exact),
        row('com.microsoft.FusedMatMul', [at([2, ...a]), at(b)], { transA, transB }, exact),
      ]
    }),
  ),
  row('Gemm', [at([3, 4]), at([4, 5]), at([])]),
  row('Gemm', [at([3, 4]), at([4, 5]), at([3, 1])]),
  row('Gemm', [at([3, 4]), at([4, 5]), at([3, 5])]),
]
