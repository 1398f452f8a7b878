/**
 * @file The folder a run works in: what it has finished, under names, so that the same run can go on from there. One process at a
 * time works on an output and in a folder. Knows no model; what is stored is its users' business.
 */

import { option } from '../option-mark.ts'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readdirSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { QuantError } from '../errors.ts'
import { removeQuietly } from './atomic-file.ts'
import { makeFolder, missingFolders, removeEmpty } from './folders.ts'
import { Lock, type LockTimes } from './lock.ts'
import { readRecord, writeRecord } from './record.ts'

/** What makes two runs the same, in words, by what it is about ("epochs": "4"). */
export type Signature = Readonly<Record<string, string>>

const RUN = 'run'

const LOCK = 'lock'

const RECORD = '.record'

const HASH_DIGITS = 8

/** Folders of a run, and what it finds of them. */
export interface WorkPlace {
  /** Absolute path of the file that is to be written. */
  readonly output: string
  /** Folder of the run, used by nothing else. */
  readonly path: string
  /** Folders that are not there yet, and go again if they stay empty. */
  readonly missing: readonly string[]
}

/**
 * The place for the work on an output: hidden beside it; or, in a folder that the user names and that may hold anything, a folder of
 * its own, whose name tells outputs of one name apart.
 */
export function workPlace(output: string, workDir: string | undefined): WorkPlace {
  const hash = createHash('sha256').update(output).digest('hex').slice(0, HASH_DIGITS)
  const path =
    workDir === undefined
      ? join(dirname(output), `.${basename(output)}.omniquant`)
      : join(resolve(workDir), `${basename(output)}-${hash}.omniquant`)
  return { output, path, missing: [...missingFolders(path), ...missingFolders(dirname(output))] }
}

export class WorkFolder {
  readonly path: string
  /** Whether an earlier run of the same kind left something here. */
  readonly resumed: boolean
  private readonly place: WorkPlace
  private readonly locks: readonly Lock[]

  private constructor(place: WorkPlace, locks: readonly Lock[], resumed: boolean) {
    this.path = place.path
    this.resumed = resumed
    this.place = place
    this.locks = locks
  }

  /**
   * Opens the folder of a run, or makes it. What an earlier run with the same signature left is kept, unless `fresh`.
   * @throws E_RESUME when another run is working on the output or in the folder, or left something there, or what is there cannot
   * be read; E_OUTPUT.
   */
  static async open(place: WorkPlace, signature: Signature, fresh: boolean, times?: LockTimes): Promise<WorkFolder> {
    const locks = await lockBoth(place, times)
    const opened = (resumed: boolean) => new WorkFolder(place, locks, resumed)
    try {
      const { path } = place
      // Of a process that was killed; what is not complete has these names.
      const unfinished = ownFiles(path).filter(name => isTemporary(name) || fresh)
      for (const name of unfinished) removeQuietly(join(path, name))
      const folder = opened(existsSync(join(path, RUN + RECORD)))
      if (folder.resumed) checkSignature(path, folder.read(RUN) as Signature, signature)
      else folder.write(RUN, signature)
      return folder
    } catch (error) {
      opened(false).release()
      throw error
    }
  }

  /**
   * The folder that a process left when it was killed, for clearing up.
   * @returns undefined when another one works there by now, or what is there cannot be reached.
   */
  static async adopt(place: WorkPlace): Promise<WorkFolder | undefined> {
    try {
      return new WorkFolder(place, await lockBoth(place), true)
    } catch {
      return undefined
    }
  }

  file(name: string): string {
    return join(this.path, name)
  }

  has(name: string): boolean {
    return existsSync(this.file(name + RECORD))
  }

  /** @throws E_RESUME when it is damaged. */
  read(name: string): unknown {
    return readRecord(this.file(name + RECORD))
  }

  /**
   * Takes the place of what has the name, at once. @param durable also when the machine goes down now.
   * @throws E_OUTPUT; E_RESUME when another process works here.
   */
  write(name: string, value: unknown, durable = true): void {
    this.check()
    writeRecord(this.file(name + RECORD), value, durable)
  }

  forget(name: string): void {
    removeQuietly(this.file(name + RECORD))
  }

  /** @throws E_RESUME when another process works here, which it can only if it took this one for dead. */
  check(): void {
    for (const lock of this.locks) lock.check()
  }

  /** Removes everything but records and the files of these names. */
  removeAllBut(names: readonly string[]): void {
    for (const name of ownFiles(this.path))
      if (!name.endsWith(RECORD) && !names.includes(name)) removeQuietly(this.file(name))
  }

  /** Bytes on the disk of files that are no records: what `removeAllBut` would free, and what it would leave. */
  get scratchBytes(): number {
    const files = ownFiles(this.path).filter(name => !name.endsWith(RECORD))
    return files.reduce((sum, name) => sum + allocatedBytes(this.file(name)), 0)
  }

  /** Leaves the folder as it is, for a later run. It never throws. */
  release(): void {
    for (const lock of this.locks.toReversed()) lock.release()
    removeEmpty(this.place.missing)
  }

  /**
   * Removes what is in the folder, the folder, and those made for it as long as they are empty. It never throws.
   * @returns what is left and why, for the user.
   */
  remove(): string[] {
    const { path, locks } = this
    const stuck = ownFiles(path).filter(name => !removeQuietly(join(path, name)))
    for (const lock of locks.slice(1)) lock.release()
    removeEmpty([path])
    const left = namesIn(path).filter(name => !stuck.includes(name))
    const stays = existsSync(path)
    this.release()
    if (stays && stuck.length + left.length === 0) return [`could not remove ${path}, which is empty`]
    return [
      ...(stuck.length > 0 ? [`could not remove ${list(stuck)} in ${path}: remove that folder`] : []),
      ...(left.length > 0 ? [`${path} stays: it holds ${list(left)}, which omniquant did not make`] : []),
    ]
  }
}

const SHOWN = 3

const list = (names: readonly string[]): string =>
  names.slice(0, SHOWN).join(', ') + (names.length > SHOWN ? ` and ${names.length - SHOWN} more` : '')

/**
 * Locks output and folder, which two runs may share one of: an output with two work folders, or a disk with other machines, on which
 * the same path is another output.
 */
async function lockBoth({ output, path, missing }: WorkPlace, times?: LockTimes): Promise<Lock[]> {
  const what = 'this output'
  const locks: Lock[] = []
  try {
    locks.push(await Lock.take(join(dirname(output), `.${basename(output)}.${LOCK}`), what, times))
    makeOwnFolder(path)
    locks.push(await Lock.take(join(path, LOCK), what, times))
    return locks
  } catch (error) {
    for (const lock of locks) lock.release()
    removeEmpty(missing)
    throw error
  }
}

/** @throws E_OUTPUT; for a link too: it was not made by omniquant, and leads into a folder that is not its own. */
function makeOwnFolder(path: string): void {
  makeFolder(dirname(path))
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found && !found.isDirectory())
    throw new QuantError(
      'E_OUTPUT',
      `cannot work in ${path}: it is ${found.isSymbolicLink() ? 'a link' : 'not a folder'}`,
      `Remove it, or choose another place for the work with ${option('workDir')}.`,
    )
  makeFolder(path)
}

/** Names in a folder; none when it cannot be read. */
function namesIn(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

const isTemporary = (name: string): boolean => /^\..*\.[0-9a-f]{16}\.tmp$/.test(name)

/** Names of files that were made here. Locks go when they are given free. */
const ownFiles = (path: string): string[] =>
  namesIn(path).filter(name => name.endsWith(RECORD) || name.endsWith('.f32') || isTemporary(name))

/** Unit of `blocks` in the answer of the system, whatever the disk's own is. */
const STAT_BLOCK_BYTES = 512

const allocatedBytes = (path: string): number =>
  (lstatSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * STAT_BLOCK_BYTES

function checkSignature(path: string, found: Signature, wanted: Signature): void {
  const keys = [...new Set([...Object.keys(wanted), ...Object.keys(found)])]
  const different = keys.filter(key => found[key] !== wanted[key])
  if (different.length === 0) return
  const [key] = different as [string]
  throw new QuantError(
    'E_RESUME',
    `an unfinished run for this output is another one: its ${key} was ${found[key] ?? 'not given'}, ` +
      `now it is ${wanted[key] ?? 'not given'} (${path})`,
    `Give the model and the options it was started with to go on, or ${option('fresh', true)} to start over.`,
  )
}
