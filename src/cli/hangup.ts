/** @file Effect of a closed terminal (SIGHUP) on a run. */

import { isatty } from 'node:tty'

/**
 * True with a terminal, whose closing ends the run. Node resets ignored signals when it starts, so that what `nohup` asked for
 * cannot be seen any more (nor in /proc/self/status); but of what GNU's `nohup` starts, no standard stream is a terminal.
 */
export const hasTerminal = (): boolean => [0, 1, 2].some(stream => isatty(stream))

/** Lets SIGHUP pass for good. */
export function ignoreHangup(): void {
  process.on('SIGHUP', () => {})
}

/** Ends the process as SIGHUP does by itself. Left to end alone, Node aborts (core dump) when a terminal it began with has gone. */
export function endByHangup(): void {
  process.kill(process.pid, 'SIGHUP')
}
