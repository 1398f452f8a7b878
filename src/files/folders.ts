/** @file Folders: names reach the disk only when their folder does. */

import { closeSync, fsyncSync, openSync } from 'node:fs'

/** Waits until the names in a folder are on the disk: after it, a rename survives a power cut. */
export function syncFolder(folder: string): void {
  if (process.platform === 'win32') return // Folders cannot be opened there; NTFS journals names itself.
  const descriptor = openSync(folder, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
