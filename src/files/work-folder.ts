/**
 * @file Work folder of a run: records of what is finished, by name, so that the same run can be resumed. One process at a time works
 * on an output and in a folder. Knows no model, and not what the records hold.
 */

import { option } from '../option-mark.ts'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readdirSync, type Stats } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { QuantError } from '../errors.ts'
import { removeQuietly } from './atomic-file.ts'
import { diskError } from './disk-errors.ts'
import { makeFolder, missingFolders, removeEmpty } from './folders.ts'
import { Lock, type LockTimes } from './lock.ts'
import { readRecord, writeRecord } from './record.ts'

/** Options and inputs of a run, as text by name ("epochs": "4"). Runs of equal signature are the same run. */
export type Signature = Readonly<Record<string, string>>

const RUN = 'run'

const LOCK = 'lock'

const RECORD = '.record'

const HASH_DIGITS = 8

/** Paths of a run. */
export interface WorkPlace {
  /** Absolute path of the output file. */
  readonly output: string
  /** Folder of the run, used by nothing else. */
  readonly path: string
  /** Folders that do not exist yet. They are removed again if they stay empty. */
  readonly missing: readonly string[]
}

/**
 * Work folder of an output: hidden beside it, or inside the folder `workDir`, which may hold other files. There its name has a hash,
 * because outputs in different folders may have one name.
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
  /** True when an earlier run of the same signature left records here. */
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
   * Opens the folder of a run, or makes it. Records of an earlier run of the same signature are kept, unless `fresh`.
   * @throws E_RESUME when another run works on the output or in the folder, when the records are of another signature, or when they
   * cannot be read; E_OUTPUT.
   */
  static async open(place: WorkPlace, signature: Signature, fresh: boolean, times?: LockTimes): Promise<WorkFolder> {
    const locks = await lockBoth(place, times)
    const opened = (resumed: boolean) => new WorkFolder(place, locks, resumed)
    try {
      const { path } = place
      const resumed = !fresh && entryAt(join(path, RUN + RECORD)) !== undefined
      clear(path, resumed)
      const folder = opened(resumed)
      if (resumed) checkSignature(path, folder.read(RUN) as Signature, signature)
      else folder.write(RUN, signature)
      return folder
    } catch (error) {
      opened(false).release()
      throw error
    }
  }

  /**
   * Opens the folder of a killed process, to clear it up.
   * @returns undefined when another process works there, or the folder cannot be reached.
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
   * Writes a record, or replaces it. @param durable waits until it is on the disk.
   * @throws E_OUTPUT; E_RESUME when another process works here.
   */
  write(name: string, value: unknown, durable = true): void {
    this.check()
    writeRecord(this.file(name + RECORD), value, durable)
  }

  forget(name: string): void {
    removeQuietly(this.file(name + RECORD))
  }

  /** Checks that the locks are still held. @throws E_RESUME when another process took this one for dead. */
  check(): void {
    for (const lock of this.locks) lock.check()
  }

  /** Removes everything but records and the files of these names. */
  removeAllBut(names: readonly string[]): void {
    for (const name of ownFiles(this.path))
      if (!name.endsWith(RECORD) && !names.includes(name)) removeQuietly(this.file(name))
  }

  /** Bytes on the disk of all files that are not records. */
  get scratchBytes(): number {
    const files = ownFiles(this.path).filter(name => !name.endsWith(RECORD))
    return files.reduce((sum, name) => sum + allocatedBytes(this.file(name)), 0)
  }

  /** Releases the locks and leaves the folder for a later run. It never throws. */
  release(): void {
    for (const lock of this.locks.toReversed()) lock.release()
    removeEmpty(this.place.missing)
  }

  /**
   * Removes the files of the run, its folder, and the folders made for it if they are empty. It never throws.
   * @returns notes for the user on what is left and why.
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
 * Locks the output and the folder. Two runs may share either: one output with two work folders, or one folder on a shared disk, where
 * the same output path is another file on each machine.
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

/** Makes the work folder. @throws E_OUTPUT, also for a link: omniquant makes none, and it leads into a folder of somebody else. */
function makeOwnFolder(path: string): void {
  makeFolder(dirname(path))
  const found = entryAt(path)
  if (found && !found.isDirectory())
    throw new QuantError(
      'E_OUTPUT',
      `cannot work in ${path}: it is ${found.isSymbolicLink() ? 'a link' : 'not a folder'}`,
      `Remove it, or choose another place for the work with ${option('workDir')}.`,
    )
  makeFolder(path)
}

/** @throws E_OUTPUT when the system does not say: a link must not be taken for nothing. */
function entryAt(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false })
  } catch (error) {
    throw diskError(`cannot work in ${path}`, error)
  }
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

/** Names of files that omniquant made here, without locks. */
const ownFiles = (path: string): string[] =>
  namesIn(path).filter(name => name.endsWith(RECORD) || /\.f(16|32)$/.test(name) || isTemporary(name))

/**
 * Removes files that no run can go on from: unfinished ones, and all records when there is no record of the run.
 * @throws E_OUTPUT when such a record cannot be removed: it would become part of another result.
 */
function clear(path: string, resumed: boolean): void {
  for (const name of ownFiles(path)) {
    if (resumed && !isTemporary(name)) continue
    if (removeQuietly(join(path, name)) || !name.endsWith(RECORD)) continue
    const hint = 'Remove it, or choose another place for the work with --work-dir.'
    throw new QuantError('E_OUTPUT', `cannot remove ${join(path, name)}, which belongs to no run`, hint)
  }
}

/** Unit of `blocks` in stats, on every disk. */
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
