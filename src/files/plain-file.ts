/** @file Opening of files that omniquant wrote itself: no links, and no pipes or devices, which would never end. */

import { closeSync, constants, fstatSync, openSync } from 'node:fs'

/** Windows has neither flag, nor what they are against. */
const NO_LINK = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)

/** Opens a file that is there. @throws the error of the system, ELOOP for a link; a plain Error when it is not a file. */
export function openPlainFile(path: string, writable = false): number {
  const descriptor = openSync(path, (writable ? constants.O_RDWR : constants.O_RDONLY) | NO_LINK)
  try {
    if (!fstatSync(descriptor).isFile()) throw new Error('it is not a file')
    return descriptor
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
}
