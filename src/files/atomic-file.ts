/**
 * @file A file that is complete under its name or not there at all. It is written under a temporary name beside its place, which
 * nobody can foresee and no link can take.
 */

import { randomBytes } from 'node:crypto'
import { closeSync, constants, fsyncSync, lstatSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { closeQuietly } from './closing.ts'
import { syncFolder } from './folders.ts'
import { writeFully } from './write-fully.ts'

/** Creates the file or fails: it never opens what is there, be it a file or a link. Windows has no such links and no such flag. */
const CREATE = constants.O_CREAT | constants.O_EXCL | constants.O_RDWR | (constants.O_NOFOLLOW ?? 0)

const RANDOM_BYTES = 8

/** A hidden name that begins with a file's, and that nobody can foresee. */
export const hiddenName = (file: string, ending: string): string =>
  `.${file}.${randomBytes(RANDOM_BYTES).toString('hex')}.${ending}`

/** Opens a new file for reading and writing. @throws the error of the system, EEXIST when anything has the name. */
export const createFile = (path: string): number => openSync(path, CREATE)

/** A file under way to its name. After `publish` or `discard` nothing else may be called. */
export class AtomicFile {
  /** Place where it appears. */
  readonly path: string
  /** Place where it is written, in the same folder. */
  readonly temporary: string
  private readonly descriptor: number
  private open = true
  private size = 0

  /**
   * @param owner file whose lock is held, by default the file itself: the temporary name begins with the name of that one.
   * @throws the error of the system when the folder does not take it.
   */
  constructor(path: string, owner: string = path) {
    this.path = path
    this.temporary = join(dirname(path), hiddenName(basename(owner), 'tmp'))
    this.descriptor = createFile(this.temporary)
  }

  /** Writes bytes at a position; by default behind all that were written. */
  write(bytes: Uint8Array, position: number = this.size): void {
    writeFully(this.descriptor, bytes, position)
    this.size = Math.max(this.size, position + bytes.length)
  }

  /** Ends writing. @param durable waits until the bytes are on the disk. */
  finish(durable = true): void {
    if (!this.open) return
    if (durable) fsyncSync(this.descriptor)
    this.open = false
    closeSync(this.descriptor)
  }

  /** Gives the file its name; what had the name is gone at once. @param durable also after a power cut. */
  publish(durable = true): void {
    this.finish(durable)
    renameSync(this.temporary, this.path)
    if (durable) syncFolder(dirname(this.path))
  }

  /** Removes what was written. It never throws: the error that led here is the one to tell. */
  discard(): void {
    if (this.open) closeQuietly(this.descriptor)
    this.open = false
    removeQuietly(this.temporary)
  }
}

/** Removes a file or link, not what a link leads to. It never throws. @returns whether nothing is left under the name. */
export function removeQuietly(path: string): boolean {
  try {
    rmSync(path, { force: true })
    return true
  } catch {
    return false
  }
}

/** Writes a small file at once. @throws the error of the system; then nothing has changed under the name. */
export function writeAtomically(path: string, bytes: Uint8Array, durable = true): void {
  const file = new AtomicFile(path)
  try {
    file.write(bytes)
    file.publish(durable)
  } catch (error) {
    file.discard()
    throw error
  }
}

/**
 * Hidden files that ended processes left of the file at `path`. The caller holds the lock of that file: a living process's would be
 * among them.
 * @param ending "tmp" for files under way. @param folder where to look, by default beside the file.
 */
export function temporariesOf(path: string, ending = 'tmp', folder: string = dirname(path)): string[] {
  const start = `.${basename(path)}.`
  const isTemporary = (name: string) =>
    name.startsWith(start) && name.endsWith(`.${ending}`) && /^[0-9a-f]{16}\.[a-z]+$/.test(name.slice(start.length))
  try {
    return readdirSync(folder)
      .filter(isTemporary)
      .map(name => join(folder, name))
      .filter(file => lstatSync(file, { throwIfNoEntry: false })?.isFile() ?? false)
  } catch {
    return [] // Without the folder there is nothing in it.
  }
}
