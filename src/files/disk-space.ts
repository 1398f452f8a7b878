/** @file How much room a run needs on disk, and whether it is there. Knows sizes, no models. */

import { option } from '../option-mark.ts'
import { existsSync, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { QuantError } from '../errors.ts'

/** Something that is going to be written. */
export interface DiskNeed {
  readonly what: string
  readonly folder: string
  readonly bytes: number
}

const gigabytes = (bytes: number): string =>
  bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`

/** The folder itself, or the nearest above it that is there. */
function existing(folder: string): string {
  let current = folder
  while (!existsSync(current) && dirname(current) !== current) current = dirname(current)
  return current
}

/**
 * Refuses a run whose files will not fit, before it begins. Needs of folders on one disk are added up.
 * @throws E_OUTPUT
 */
export function checkDiskSpace(needs: readonly DiskNeed[]): void {
  const byDevice = new Map<number, DiskNeed[]>()
  for (const need of needs.map(each => ({ ...each, folder: existing(each.folder) }))) {
    const { dev } = statSync(need.folder)
    byDevice.set(dev, [...(byDevice.get(dev) ?? []), need])
  }
  for (const group of byDevice.values()) {
    const { bavail, bsize } = statfsSync(group[0]!.folder)
    const free = bavail * bsize
    const total = group.reduce((sum, { bytes }) => sum + bytes, 0)
    if (total <= free) continue
    const parts = group
      .filter(({ bytes }) => bytes > 0)
      .map(({ what, bytes }) => `${what} ${gigabytes(bytes)}`)
      .join(', ')
    throw new QuantError(
      'E_OUTPUT',
      `${group[0]!.folder} has ${gigabytes(free)} free, and this run needs about ${gigabytes(total)} there (${parts})`,
      `Free some space, use fewer ${option('samples')} or a shorter ${option('seqLen')}, or choose another disk with ${option('workDir')}.`,
    )
  }
}
