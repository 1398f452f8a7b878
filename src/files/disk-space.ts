/** @file Compares the disk space that a run needs with what is free. Knows sizes, no models. */

import { option } from '../option-mark.ts'
import { existsSync, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { QuantError } from '../errors.ts'

/** Space that a run needs in one folder. */
export interface DiskNeed {
  readonly what: string
  readonly folder: string
  readonly bytes: number
}

const gigabytes = (bytes: number): string =>
  bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`

/** The folder, or the nearest parent that exists. */
function existing(folder: string): string {
  let current = folder
  while (!existsSync(current) && dirname(current) !== current) current = dirname(current)
  return current
}

/**
 * Refuses a run whose files do not fit, before it begins. Folders on one disk share its free space.
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
