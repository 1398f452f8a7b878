/** @file Whole files into memory, if they are files and small enough. Knows no format; callers say what went wrong in their terms. */

import { readFileSync, statSync } from 'node:fs'

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

/**
 * @throws Error, plain, saying why not: pipes and devices would never end (or begin), and what is too large would fill the memory.
 */
export function readBounded(path: string, maxBytes: number): Uint8Array {
  const stats = statSync(path)
  if (!stats.isFile()) throw new Error('it is not a file')
  if (stats.size > maxBytes) throw new Error(`it has ${megabytes(stats.size)}, more than ${megabytes(maxBytes)}`)
  return readFileSync(path)
}
