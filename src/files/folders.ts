/** @file Makes, syncs and removes folders, with the folders above them. */

import { option } from '../option-mark.ts'
import { existsSync, fsyncSync, mkdirSync, openSync, rmdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { closing } from './closing.ts'
import { diskHint, systemCode } from './disk-errors.ts'

/** Makes a folder and its parents, unless it exists. @throws E_OUTPUT */
export function makeFolder(path: string): void {
  try {
    const made = mkdirSync(path, { recursive: true })
    if (made !== undefined) syncAbove(path, made)
  } catch (error) {
    // A read-only disk says that there is no such folder: no use asking what it was.
    const hint = `Choose another output folder with ${option('output')}, or another place for its work with ${option('workDir')}.`
    throw new QuantError('E_OUTPUT', `cannot write to ${path}: ${messageOf(error)}`, diskHint(error, hint), {
      cause: error,
    })
  }
}

/** Waits until the names of new folders are on the disk: from `path` up to `made`, the topmost new one. */
function syncAbove(path: string, made: string): void {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    syncFolder(dirname(folder))
    if (folder === resolve(made) || dirname(folder) === folder) return
  }
}

/**
 * Errors of folders that cannot be synced: folders without permission to read, and some on network disks. They are ignored, as
 * PostgreSQL ignores them.
 */
const IMPOSSIBLE: ReadonlySet<string | undefined> = new Set(['EACCES', 'EISDIR', 'EBADF', 'EINVAL', 'ENOTSUP'])

/** Waits until the names in a folder are on the disk, so that a rename survives a power cut. */
export function syncFolder(folder: string): void {
  if (process.platform === 'win32') return // Folders cannot be opened there; NTFS journals names itself.
  try {
    closing(openSync(folder, 'r'), fsyncSync)
  } catch (error) {
    if (!IMPOSSIBLE.has(systemCode(error))) throw error
  }
}

/** Folders that `makeFolder` would make for a path, deepest first. */
export function missingFolders(path: string): string[] {
  const missing: string[] = []
  for (let folder = resolve(path); !existsSync(folder) && dirname(folder) !== folder; folder = dirname(folder))
    missing.push(folder)
  return missing
}

/** Removes the folders that are empty. It never throws. */
export function removeEmpty(folders: readonly string[]): void {
  for (const folder of folders) {
    try {
      rmdirSync(folder)
    } catch {
      // It holds something, or is not there.
    }
  }
}
