/**
 * @file Files that are replaced together: readers find all new files, all old files, or no head (the first file). The next process
 * repairs what a killed one left.
 */

import { lstatSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { internalError, QuantError } from '../errors.ts'
import { AtomicFile, hiddenName, removeQuietly, temporariesOf } from './atomic-file.ts'
import { sameContent } from './copy-file.ts'
import { makeFolder, syncFolder } from './folders.ts'
import { checkReplaceable, statsOf } from './names.ts'

/** Paths of a set, known before it is written. */
export interface SetPlace {
  /** File by which readers find the others. It is moved away first and appears last. Its lock covers the whole set. */
  readonly head: string
  /** Other files that replace old ones. */
  readonly others: readonly string[]
  /** Folders in which the set has files. */
  readonly folders: readonly string[]
}

/** Ending of hidden names of old files, until their successors are in place. */
const OLD = 'old'

/** A set that is being written. After `publish` or `discard` nothing else may be called. */
export class FileSet {
  readonly head: string
  private readonly files: { readonly file: AtomicFile; readonly replaces: boolean }[] = []

  constructor(head: string) {
    this.head = head
  }

  /**
   * Adds a new file to the set; folders are made as needed.
   * @param replaces false when an existing file of that name makes `publish` fail, unless it has the same content: then it stays.
   * @throws the error of the system.
   */
  add(path: string, replaces = true): AtomicFile {
    makeFolder(dirname(path))
    const file = new AtomicFile(path, this.head)
    this.files.push({ file, replaces })
    return file
  }

  /** Ends writing: everything is on the disk, under hidden names. @throws the error of the system. */
  finish(): void {
    for (const { file } of this.files) file.finish()
  }

  /**
   * Gives all files their names. The old head is moved away first and the new one appears last, so that a head never stands beside files
   * of another one. Folders are synced in between, so that this holds after a power cut too. On errors everything is put back.
   * @throws the error of the system; E_OUTPUT when something that cannot be replaced has one of the names.
   */
  publish(): void {
    const head = this.files.find(({ file }) => file.path === this.head)
    if (!head) throw internalError(`the set of ${this.head} lacks that file`)
    const others = this.files.filter(each => each !== head)
    this.finish()
    const steps = new Steps()
    try {
      if (steps.moveAway(head.file.path, head.replaces)) syncFolder(dirname(this.head))
      const shared = others.filter(({ file, replaces }) => !replaces && isThere(file))
      shared.forEach(({ file }) => file.discard())
      const missing = others.filter(each => !shared.includes(each))
      for (const { file, replaces } of missing) steps.moveAway(file.path, replaces)
      for (const { file } of missing) steps.place(file)
      for (const folder of new Set(others.map(({ file }) => dirname(file.path)))) syncFolder(folder)
      steps.place(head.file)
      syncFolder(dirname(this.head))
    } catch (error) {
      steps.undo()
      throw error
    }
    steps.forgetOld()
  }

  /** Removes what was written. It never throws. */
  discard(): void {
    for (const { file } of this.files) file.discard()
  }
}

/** True when another process has published the same content under the same name: two outputs of one folder share such files. */
function isThere({ path, temporary }: AtomicFile): boolean {
  return (lstatSync(path, { throwIfNoEntry: false })?.isFile() ?? false) && sameContent(path, temporary)
}

/** Renames that can be undone. */
class Steps {
  private readonly back: (() => void)[] = []
  private readonly old: string[] = []

  /** Renames an old file to a hidden name. @returns false when there was none. */
  moveAway(path: string, allowed: boolean): boolean {
    if (!lstatSync(path, { throwIfNoEntry: false })) return false
    checkReplaceable(path)
    if (!allowed)
      throw new QuantError(
        'E_OUTPUT',
        `${path} has appeared while the output was written`,
        'Move it away and run the same command again, or choose an empty folder with -o.',
      )
    const old = join(dirname(path), hiddenName(basename(path), OLD))
    renameSync(path, old)
    this.back.push(() => renameSync(old, path))
    this.old.push(old)
    return true
  }

  place(file: AtomicFile): void {
    file.publish(false)
    this.back.push(() => rmSync(file.path))
  }

  /** Undoes all steps, the last first. It stops at the first failure and leaves the rest to the next run: going on would mix two sets. */
  undo(): void {
    try {
      for (const step of this.back.reverse()) step()
    } catch {
      // The error that led here is the one to tell.
    }
  }

  /** Removes old files. The next run removes those that cannot be removed now. */
  forgetOld(): void {
    this.old.forEach(removeQuietly)
  }
}

/**
 * Writes files and publishes them together.
 * @throws what `write` throws, and as `FileSet.publish`; then nothing has changed.
 */
export async function publishTogether<T>(head: string, write: (set: FileSet) => Promise<T>): Promise<T> {
  const set = new FileSet(head)
  try {
    const result = await write(set)
    set.publish()
    return result
  } catch (error) {
    set.discard()
    throw error
  }
}

/**
 * Repairs what a killed process left of a set: temporary files are removed, and old files get their names back unless the new set is
 * complete. The caller holds the lock of the head. It never throws; the next run tries again.
 */
export function recoverSet({ head, others, folders }: SetPlace): void {
  for (const folder of new Set([dirname(head), ...folders])) temporariesOf(head, 'tmp', folder).forEach(removeQuietly)
  const complete = statsOf(head, lstatSync) !== undefined
  // The head last: without it nobody takes the other files for a complete set.
  for (const path of [...others, head])
    for (const old of temporariesOf(path, OLD))
      if (complete) removeQuietly(old)
      else if (!putBack(old, path)) return
}

function putBack(old: string, path: string): boolean {
  try {
    renameSync(old, path)
    return true
  } catch {
    return false
  }
}
