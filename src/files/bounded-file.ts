/** @file Reads whole files that are not too large. Knows no format; callers put the errors into their own words. */

import { readFileSync, statSync } from 'node:fs'

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

/**
 * Reads a file. @throws a plain Error for pipes and devices, which may never end, and for files above the limit.
 */
export function readBounded(path: string, maxBytes: number): Uint8Array {
  const stats = statSync(path)
  if (!stats.isFile()) throw new Error('it is not a file')
  if (stats.size > maxBytes) throw new Error(`it has ${megabytes(stats.size)}, more than ${megabytes(maxBytes)}`)
  return readFileSync(path)
}
