/** @file Signals that end a command: Ctrl-C, `kill`, a closed terminal. */

import { constants } from 'node:os'
import { hasTerminal } from './hangup.ts'

const endingSignals = (): NodeJS.Signals[] => ['SIGINT', 'SIGTERM', ...(hasTerminal() ? (['SIGHUP'] as const) : [])]

/** Exit code that shells report for a process ended by a signal. */
const codeOf = (name: NodeJS.Signals): number => 128 + constants.signals[name]

/** Watch over the signals that ask the process to end. */
export interface Interrupts {
  /** Aborted by the first of them. */
  readonly signal: AbortSignal
  /** Exit code for that one: 130 for Ctrl-C, 143 for `kill`. */
  readonly exitCode: () => number | undefined
  readonly release: () => void
}

/** Aborts a signal when the process is asked to end, until `release` is called. */
export function watchInterrupts(): Interrupts {
  const controller = new AbortController()
  let first: NodeJS.Signals | undefined
  const abort = (name: NodeJS.Signals) => {
    first ??= name
    controller.abort()
  }
  const names = endingSignals()
  for (const name of names) process.on(name, abort)
  return {
    signal: controller.signal,
    exitCode: () => (first === undefined ? undefined : codeOf(first)),
    release: () => {
      for (const name of names) process.off(name, abort)
    },
  }
}
