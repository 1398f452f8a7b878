/** @file Checks of names that are to be written. */

import { lstatSync, type Stats, statSync } from 'node:fs'
import { QuantError } from '../errors.ts'

/** Stats of a path, links followed; undefined when it is absent or cannot be reached. */
export function statsOf(path: string, stat: typeof statSync | typeof lstatSync = statSync): Stats | undefined {
  try {
    return stat(path)
  } catch {
    return undefined
  }
}

/**
 * Refuses a name that something other than a file has. A link to a file passes: the new file replaces the link, and the link's target
 * stays.
 * @throws E_OUTPUT
 */
export function checkReplaceable(path: string): void {
  if (statsOf(path)?.isDirectory())
    throw new QuantError('E_OUTPUT', `cannot write ${path}: it is a folder`, 'Give the name of a file in it.')
  const stats = statsOf(path, lstatSync)
  if (stats && !stats.isFile() && !stats.isSymbolicLink())
    throw new QuantError('E_OUTPUT', `cannot write ${path}: it is a device, pipe or socket`, 'Give the name of a file.')
}

/** As `checkReplaceable`, and refuses links. @throws E_OUTPUT */
export function checkPlainName(path: string): void {
  checkReplaceable(path)
  if (statsOf(path, lstatSync)?.isSymbolicLink())
    throw new QuantError('E_OUTPUT', `cannot write ${path}: it is a link`, 'Give the name of the file itself.')
}
