/** @file The table of fused ops: kind -> how to say it in primitives. The rules themselves are in rewrites/. */

import { ACTIVATION_REWRITES } from './activations.ts'
import { ATTENTION_REWRITES } from './attention.ts'
import { EXPERT_REWRITES } from './experts.ts'
import { GROUP_QUERY_REWRITES } from './group-query-attention.ts'
import { LINEAR_REWRITES } from './linear.ts'
import { NORM_REWRITES } from './norms.ts'
import { PRODUCT_REWRITES } from './products.ts'
import { REFUSED_REWRITES } from './refused.ts'
import type { Rewrite } from './rewrite.ts'
import { ROTARY_REWRITES } from './rotary.ts'
import { SELECTION_REWRITES } from './selected-rows.ts'

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
