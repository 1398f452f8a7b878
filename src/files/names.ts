/** @file What may lie under a name that is to be written. */

import { lstatSync, type Stats, statSync } from 'node:fs'
import { QuantError } from '../errors.ts'

/** What is under a name, or where a link leads; undefined when it is absent or out of reach: writing will say which. */
export function statsOf(path: string, stat: typeof statSync | typeof lstatSync = statSync): Stats | undefined {
  try {
    return stat(path)
  } catch {
    return undefined
  }
}

/**
 * Refuses a name under which something else than a file lies. A link to a file passes: a file that is complete takes the link's name,
 * and what the link leads to stays.
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
