/** @file Number of threads of a session: no more than there are cores. */

import { availableParallelism } from 'node:os'
import type { SessionOptions } from './session.ts'

/**
 * The settings with at most as many threads as there are cores, and a note where that is fewer than were asked for: more of them wait for
 * each other, and each takes memory.
 */
export function withinCores(
  session: SessionOptions,
  cores: number = availableParallelism(),
): { readonly session: SessionOptions; readonly notes: readonly string[] } {
  const { threads } = session
  if (threads === undefined || threads <= cores) return { session, notes: [] }
  return {
    session: { ...session, threads: cores },
    notes: [`${threads} threads were asked for, ${cores} are used: there are no more cores`],
  }
}
