/**
 * @file Files that appear together: all new ones, or all old ones, or none under the name of the first. What a killed process left is
 * put right by the next one.
 */

import { lstatSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { internalError, QuantError } from '../errors.ts'
import { AtomicFile, hiddenName, removeQuietly, temporariesOf } from './atomic-file.ts'
import { makeFolder, syncFolder } from './folders.ts'
import { checkReplaceable, statsOf } from './names.ts'

/** Names of a set, known before it is written. */
export interface SetPlace {
  /** File by which the others are found: it goes first and comes last. Its lock is that of the whole set. */
  readonly head: string
  /** Other files that take the place of old ones. */
  readonly others: readonly string[]
  /** Folders in which the set has files. */
  readonly folders: readonly string[]
}

/** Where a file that is being replaced waits until its successor is there. */
const OLD = 'old'

/** A set under way. After `publish` or `discard` nothing else may be called. */
export class FileSet {
  readonly head: string
  private readonly files: { readonly file: AtomicFile; readonly replaces: boolean }[] = []

  constructor(head: string) {
    this.head = head
  }

  /**
   * A new file of the set; folders are made as needed.
   * @param replaces whether it takes the place of what has its name; if not, such a file makes `publish` fail.
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
   * Gives all files their names. The old head goes first and the new one comes last, so that at no moment there is a head with files of
   * another one; folders are synced in between, so that this holds after a power cut too. If it fails, everything is put back.
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
      for (const { file, replaces } of others) steps.moveAway(file.path, replaces)
      for (const { file } of others) steps.place(file)
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

/** Renames, and how to take them back. */
class Steps {
  private readonly back: (() => void)[] = []
  private readonly old: string[] = []

  /** @returns whether there was anything. */
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

  /** Takes all back, last step first. Where that fails it stops: the rest would make a mixture, and is left to the next run. */
  undo(): void {
    try {
      for (const step of this.back.reverse()) step()
    } catch {
      // The error that led here is the one to tell.
    }
  }

  /** Files that cannot be removed now are removed by the next run. */
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
 * Puts right what a killed process left of a set: its temporary files go, and old files come back unless their successors are complete.
 * The caller holds the lock of the head. It never throws: what cannot be done now can be done later.
 */
export function recoverSet({ head, others, folders }: SetPlace): void {
  for (const folder of new Set([dirname(head), ...folders])) temporariesOf(head, 'tmp', folder).forEach(removeQuietly)
  const complete = statsOf(head, lstatSync) !== undefined
  // The head last: as long as it is not there, nobody takes what is there for a whole.
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
