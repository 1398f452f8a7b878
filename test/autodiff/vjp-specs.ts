/** @file Test rows for every key of the table: ops with a gradient, from rules/, and ops without one. */

import type { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/ir.ts'
import { floatTensor } from '../../src/graph/tensor.ts'
import type { VjpSpec } from '../helpers/check-vjp.ts'
import { activationRows } from './rules/activation.ts'
import { elementwiseRows } from './rules/elementwise.ts'
import { gatherRows } from './rules/gather.ts'
import { matMulRows } from './rules/matmul.ts'
import { movementRows } from './rules/movement.ts'
import { reduceRows } from './rules/reduce.ts'
import { c } from './rules/row.ts'

/** Every row with a gradient. */
export const VJP_SPECS: readonly VjpSpec[] = [
  ...elementwiseRows,
  ...activationRows,
  ...reduceRows,
  ...movementRows,
  ...matMulRows,
  ...gatherRows,
]

/** A graph whose result depends on x only through an op that has no gradient. */
export interface NoGradientSpec {
  readonly kind: string
  readonly build: (g: Builder, x: Value) => Value
}

const toFloat = (g: Builder, value: Value, like: Value): Value => g.cast(value, like.dtype!)
const positive = (g: Builder, x: Value): Value => g.op('Greater', [x, c(g, x, 0)])

export const NO_GRADIENT_SPECS: readonly NoGradientSpec[] = [
  ...['Round', 'Floor', 'Ceil', 'Sign'].map(kind => ({ kind, build: (g: Builder, x: Value) => g.op(kind, [x]) })),
  ...['Equal', 'Less', 'Greater', 'LessOrEqual', 'GreaterOrEqual'].map(kind => ({
    kind,
    build: (g: Builder, x: Value) => toFloat(g, g.op(kind, [x, c(g, x, 0)]), x),
  })),
  ...['And', 'Or'].map(kind => ({
    kind,
    build: (g: Builder, x: Value) => toFloat(g, g.op(kind, [positive(g, x), positive(g, x)]), x),
  })),
  ...['IsNaN', 'IsInf', 'Shape', 'Size'].map(kind => ({
    kind,
    build: (g: Builder, x: Value) => toFloat(g, g.op(kind, [x]), x),
  })),
  ...['ArgMax', 'ArgMin'].map(kind => ({
    kind,
    build: (g: Builder, x: Value) => toFloat(g, g.op(kind, [x], { axis: 1 }), x),
  })),
  {
    kind: 'OneHot',
    build: (g, x) => {
      const chosen = g.op('ArgMax', [x], { axis: 1 })
      return toFloat(g, g.op('OneHot', [chosen, g.ints([4]), g.ints([0, 1])], { axis: -1 }), x)
    },
  },
  { kind: 'Not', build: (g, x) => toFloat(g, g.op('Not', [positive(g, x)]), x) },
  // These read shapes and bounds that must be constant: x joins behind them.
  {
    kind: 'Range',
    build: (g, x) =>
      g.op(
        'Range',
        [0, 3, 1].map(value => c(g, x, value)),
      ),
  },
  {
    kind: 'ConstantOfShape',
    build: g => g.op('ConstantOfShape', [g.ints([2, 2])], { value: floatTensor([1], [3], 'float64') }),
  },
]
