/**
 * @file A file that is complete under its name or not there at all. It is written under a random temporary name in the same folder, so
 * that no link can be planted under that name.
 */

import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  createWriteStream,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  type WriteStream,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { closeQuietly } from './closing.ts'
import { syncFolder } from './folders.ts'
import { writeFully } from './write-fully.ts'

/** Flags that create the file or fail: an existing file or link is never opened. Windows lacks O_NOFOLLOW, and such links. */
const CREATE = constants.O_CREAT | constants.O_EXCL | constants.O_RDWR | (constants.O_NOFOLLOW ?? 0)

const RANDOM_BYTES = 8

/** A hidden, random name that begins with the name of a file. */
export const hiddenName = (file: string, ending: string): string =>
  `.${file}.${randomBytes(RANDOM_BYTES).toString('hex')}.${ending}`

/** Opens a new file for reading and writing. @throws the error of the system, EEXIST when anything has the name. */
export const createFile = (path: string): number => openSync(path, CREATE)

/** Stream into a new file that takes the place of what has the name. @throws the error of the system. */
export function streamToNew(path: string): WriteStream {
  rmSync(path, { force: true })
  return createWriteStream(path, { fd: createFile(path) })
}

/** A file that is being written. After `publish` or `discard` nothing else may be called. */
export class AtomicFile {
  /** Final path. */
  readonly path: string
  /** Path under which it is written, in the same folder. */
  readonly temporary: string
  private readonly descriptor: number
  private open = true
  private size = 0

  /**
   * @param owner file whose lock is held, by default the file itself; the temporary name begins with its name.
   * @throws the error of the system when the file cannot be created.
   */
  constructor(path: string, owner: string = path) {
    this.path = path
    this.temporary = join(dirname(path), hiddenName(basename(owner), 'tmp'))
    this.descriptor = createFile(this.temporary)
  }

  /** Writes bytes at a position, by default at the end. */
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

  /** Renames the file to its final path and replaces what was there. @param durable waits until the name is on the disk. */
  publish(durable = true): void {
    this.finish(durable)
    renameSync(this.temporary, this.path)
    if (durable) syncFolder(dirname(this.path))
  }

  /** Removes what was written. It never throws, so that the error that led here is reported. */
  discard(): void {
    if (this.open) closeQuietly(this.descriptor)
    this.open = false
    removeQuietly(this.temporary)
  }
}

/** Removes a file or link, not what a link leads to. It never throws. @returns true when nothing is left under the name. */
export function removeQuietly(path: string): boolean {
  try {
    rmSync(path, { force: true })
    return true
  } catch {
    return false
  }
}

/** Writes a small file. @throws the error of the system; then the old file, if any, is unchanged. */
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
 * Hidden files of the file at `path` that ended processes left. The caller holds the lock of that file, so that none of them belongs
 * to a living process.
 * @param ending "tmp" for unfinished files. @param folder where to look, by default beside the file.
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
