/** @file The table of fused ops: kind -> how to say it in primitives. The rules themselves are in rewrites/. */

import { ACTIVATION_REWRITES } from './rewrites/activations.ts'
import { ATTENTION_REWRITES } from './rewrites/attention.ts'
import { EXPERT_REWRITES } from './rewrites/experts.ts'
import { GROUP_QUERY_REWRITES } from './rewrites/group-query-attention.ts'
import { LINEAR_REWRITES } from './rewrites/linear.ts'
import { NORM_REWRITES } from './rewrites/norms.ts'
import { PRODUCT_REWRITES } from './rewrites/products.ts'
import { REFUSED_REWRITES } from './rewrites/refused.ts'
import type { Rewrite } from './rewrites/rewrite.ts'
import { ROTARY_REWRITES } from './rewrites/rotary.ts'
import { SELECTION_REWRITES } from './rewrites/selected-rows.ts'

export type { Rewrite } from './rewrites/rewrite.ts'

/** By `Node.kind`. Ops that are not here are primitives already, or unknown. */
export const REWRITES: ReadonlyMap<string, Rewrite> = new Map(
  Object.entries({
    ...ACTIVATION_REWRITES,
    ...ATTENTION_REWRITES,
    ...EXPERT_REWRITES,
    ...GROUP_QUERY_REWRITES,
    ...LINEAR_REWRITES,
    ...NORM_REWRITES,
    ...PRODUCT_REWRITES,
    ...REFUSED_REWRITES,
    ...ROTARY_REWRITES,
    ...SELECTION_REWRITES,
  }),
)
