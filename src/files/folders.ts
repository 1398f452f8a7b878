/** @file Makes, syncs and removes folders, with the folders above them. */

import { option } from '../option-mark.ts'
import { existsSync, fsyncSync, mkdirSync, openSync, rmdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { closing } from './closing.ts'
import { diskHint, systemCode } from './disk-errors.ts'
import { statsOf } from './names.ts'

/** Attempts to make a folder, as another process may remove those above it in between. */
const ATTEMPTS = 10

/**
 * Makes a folder and its parents, one by one: Node's own way (`recursive`) never ends where the system says of a new name that it is not
 * there, as in /proc (Node 20.20).
 * @returns the topmost new folder, if any. @throws the error of the system.
 */
function makeAll(path: string): string | undefined {
  for (let attempt = 1; ; attempt++) {
    const missing = missingFolders(path)
    try {
      for (const folder of missing.toReversed()) makeOne(folder)
      if (missing.length === 0) makeOne(path)
      return missing.at(-1)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT' || attempt === ATTEMPTS) throw error
    }
  }
}

/** Makes a folder in one that exists; one that is there already passes. @throws the error of the system. */
function makeOne(path: string): void {
  try {
    mkdirSync(path)
  } catch (error) {
    if (systemCode(error) !== 'EEXIST' || !statsOf(path)?.isDirectory()) throw error
  }
}

/** Makes a folder and its parents, unless it exists. @throws E_OUTPUT */
export function makeFolder(path: string): void {
  try {
    const made = makeAll(path)
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
