/** @file Opens files that omniquant wrote itself. Refuses links, and pipes and devices, which may never end. */

import { constants, fstatSync, openSync } from 'node:fs'
import { closeQuietly } from './closing.ts'

/** Flags against links and pipes; Windows has neither. */
const NO_LINK = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)

/** Opens an existing file. @throws the error of the system, ELOOP for a link; a plain Error when it is not a file. */
export function openPlainFile(path: string, writable = false): number {
  const descriptor = openSync(path, (writable ? constants.O_RDWR : constants.O_RDONLY) | NO_LINK)
  try {
    if (!fstatSync(descriptor).isFile()) throw new Error('it is not a file')
    return descriptor
  } catch (error) {
    closeQuietly(descriptor)
    throw error
  }
}
