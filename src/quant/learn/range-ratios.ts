/** @file Learned shares of a range: the sigmoid of two logits, one for each end (OmniQuant, arXiv 2308.13137 section 3.2). */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'

/** Ends of a range, in the order of their parameters. */
export const ENDS = ['max', 'min'] as const

export type End = (typeof ENDS)[number]

/** sigmoid(4) = 0.982: clipping starts just inside the whole range, where the sigmoid has a gradient (reference: init_value). */
export const INITIAL_LOGIT = 4

/** sigmoid(20) is 1 in float32: the whole range, and no gradient. */
export const WHOLE_LOGIT = 20

/** The shares of both ends; undefined where they are not learned. @param logitOf an end. */
export function emitShares(
  g: Builder,
  logitOf: (end: End) => Value | undefined,
): Readonly<Record<End, Value>> | undefined {
  const [max, min] = ENDS.map(logitOf)
  return max && min && { max: g.op('Sigmoid', [max]), min: g.op('Sigmoid', [min]) }
}
