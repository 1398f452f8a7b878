/** @file Closes open files, also after errors. */

import { closeSync } from 'node:fs'

/** Uses an open file and closes it. The first error is thrown. */
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

/** Closes a file after an error. It never throws. */
export function closeQuietly(descriptor: number): void {
  try {
    closeSync(descriptor)
  } catch {
    // The descriptor is gone either way.
  }
}
