/** @file The table: op kind (`Node.kind`) to gradient rule. An op that is missing is an error, never a silent zero. */

import { activationRules } from './rules/activation.ts'
import { elementwiseRules } from './rules/elementwise.ts'
import { gatherRules } from './rules/gather.ts'
import { matMulRules } from './rules/matmul.ts'
import { movementRules } from './rules/movement.ts'
import { reduceRules } from './rules/reduce.ts'
import { NO_GRADIENT, type VjpTable } from './vjp.ts'

const PIECEWISE_CONSTANT = 'Round Floor Ceil Sign Equal Less Greater LessOrEqual GreaterOrEqual Not And Or IsNaN IsInf'

const INDEX_OR_SHAPE = 'Shape Size OneHot ArgMax ArgMin Range ConstantOfShape'

export const VJP_RULES: VjpTable = {
  ...elementwiseRules,
  ...activationRules,
  ...reduceRules,
  ...movementRules,
  ...gatherRules,
  ...matMulRules,
  ...Object.fromEntries(`${PIECEWISE_CONSTANT} ${INDEX_OR_SHAPE}`.split(' ').map(op => [op, NO_GRADIENT])),
}
