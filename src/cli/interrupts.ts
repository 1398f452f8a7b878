/** @file Signals that end a command: Ctrl-C, `kill`, a closed terminal. */

import { hasTerminal } from './hangup.ts'

const endingSignals = (): NodeJS.Signals[] => ['SIGINT', 'SIGTERM', ...(hasTerminal() ? (['SIGHUP'] as const) : [])]

/** Aborts `signal` when the process is asked to end, until `release` is called. */
export function watchInterrupts(): { readonly signal: AbortSignal; readonly release: () => void } {
  const controller = new AbortController()
  const abort = () => controller.abort()
  const names = endingSignals()
  for (const name of names) process.on(name, abort)
  return {
    signal: controller.signal,
    release: () => {
      for (const name of names) process.off(name, abort)
    },
  }
}
