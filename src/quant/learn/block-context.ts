/** @file Context that learning, replaying and rounding a block share. */

import type { BlockPlan } from '../plan/block-plan.ts'
import type { Method } from '../terms/options.ts'
import type { QuantizeEvent } from '../terms/report.ts'

export interface BlockContext {
  readonly method: Method
  /** Number of blocks of the model, for progress events. */
  readonly blocks: number
}

type Phase = (QuantizeEvent & { type: 'block' })['phase']

/** Function that reports progress of a phase, and throws the reason of an abort. */
export function progressOf(
  { method: { onEvent, signal }, blocks }: BlockContext,
  { block: { index } }: BlockPlan,
  phase: Phase,
): (done: number, total: number, loss?: number) => void {
  return (done, total, loss) => {
    signal?.throwIfAborted()
    onEvent?.({ type: 'block', index, blocks, phase, done, total, loss })
  }
}
