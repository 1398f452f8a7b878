/** @file Rows for the gradients of norms. */

import { float } from '../../../src/graph/builder.ts'
import type { VjpSpec } from '../../helpers/check-vjp.ts'
import { at, row } from './row.ts'

const both = (spec: VjpSpec): VjpSpec[] => [spec, { ...spec, name: `${spec.name} float32`, dtype: 'float32' }]

export const normalizationRows: VjpSpec[] = [
  ...[
    row('LayerNormalization', [at([2, 3, 8]), at([8]), at([8])], { epsilon: float(1e-3) }),
    row('LayerNormalization', [at([2, 3, 8]), at([8])]),
    row('LayerNormalization', [at([2, 3, 8]), at([8], { wrt: false }), at([8], { wrt: false })], { axis: 2 }),
    row('LayerNormalization', [at([2, 3, 8], { wrt: false }), at([8]), at([8])]),
    row('LayerNormalization', [at([2, 3, 8], { wrt: false }), at([8], { wrt: false }), at([8])]),
    row('LayerNormalization', [at([2, 3, 4]), at([3, 4]), at([3, 4])], { axis: 1 }),
    row('SimplifiedLayerNormalization', [at([2, 3, 8]), at([8])], { epsilon: float(1e-3) }),
    row('SimplifiedLayerNormalization', [at([2, 3, 8]), at([8], { wrt: false })]),
    row('SimplifiedLayerNormalization', [at([2, 3, 8], { wrt: false }), at([8])]),
  ].flatMap(both),
  row('RMSNormalization', [at([2, 3, 8]), at([8])], { epsilon: float(1e-3) }, { opset: 23 }),
]
