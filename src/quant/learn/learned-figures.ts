/** @file Figures of a finished block for the report, from its plan and from what was learned. */

import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { BlockReport } from '../terms/report.ts'
import { clipRatiosOf } from './clipping.ts'
import { scalesIn } from './equivalence.ts'
import type { Learned } from './learned.ts'
import { spreadOf } from './spread.ts'

/** Errors of linears' outputs with the weights rounded to nearest, and with what was learned. */
export interface LinearErrors {
  readonly rounded?: ReadonlyMap<Linear, number>
  readonly learned?: ReadonlyMap<Linear, number>
}

/** Figures of the linears and of the transformations. @param learned undefined for a block that was rounded to nearest. */
export function learnedFigures(
  plan: BlockPlan,
  learned: Learned | undefined,
  errors: LinearErrors | undefined,
): Pick<BlockReport, 'figures' | 'scales'> {
  const figures = [...plan.quantizers].map(([linear, { bits, group }], i) => {
    const clipping = learned && spreadOf(clipRatiosOf(learned, linear, i))
    const [before, after] = [errors?.rounded?.get(linear), errors?.learned?.get(linear)]
    return {
      name: linear.name,
      bits,
      group,
      ...(errors && {
        error: { ...(before !== undefined && { rounded: before }), ...(after !== undefined && { learned: after }) },
      }),
      ...(clipping && { clipping }),
    }
  })
  const scales = (learned ? scalesIn(plan, learned) : []).flatMap(({ mapping, scales }) => {
    const spread = spreadOf(scales)
    return spread ? [{ mapping: mapping.name, scales: spread }] : []
  })
  return { ...(figures.length > 0 && { figures }), ...(scales.length > 0 && { scales }) }
}
