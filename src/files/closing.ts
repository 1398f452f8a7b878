/** @file Open files that are closed again, however their use ends. */

import { closeSync } from 'node:fs'

/** Uses an open file and closes it. The error that is told is the first one. */
export function closing<T>(descriptor: number, use: (descriptor: number) => T): T {
  let result: T
  try {
    result = use(descriptor)
  } catch (error) {
    closeQuietly(descriptor)
    throw error
  }
  closeSync(descriptor)
  return result
}

/** Closes a file of which nobody wants to know any more. It never throws. */
export function closeQuietly(descriptor: number): void {
  try {
    closeSync(descriptor)
  } catch {
    // The descriptor is gone either way.
  }
}
