/** @file Rows for the gradients of activation functions. */

import type { VjpSpec } from '../../helpers/check-vjp.ts'
import { at, row } from './row.ts'

export const activationRows: VjpSpec[] = [
  row('Sigmoid', [at([2, 3])]),
  row('Tanh', [at([2, 3])]),
  row('Relu', [at([2, 5], { avoid: [0] })]),
  row('Softplus', [at([2, 3])], {}, { dtype: 'float32' }), // no float64 kernel
  row('Erf', [at([2, 3])], {}, { dtype: 'float32' }), // no float64 kernel
]
