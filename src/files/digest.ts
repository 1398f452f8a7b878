/** @file Digests of file contents, and a watch that notices changed files. */

import { option } from '../option-mark.ts'
import { createHash, type Hash } from 'node:crypto'
import { openSync, readSync, realpathSync, statSync } from 'node:fs'
import { QuantError } from '../errors.ts'
import { closing } from './closing.ts'
import { systemCode } from './disk-errors.ts'

/** Files up to this size are read whole. Of larger ones a part is read, and their size and time of change count too. */
const WHOLE_BYTES = 64 * 2 ** 20

const WINDOWS = 64

const WINDOW_BYTES = 2 ** 20

/**
 * Adds a file to a hash: all bytes of a small one; evenly spaced windows of a large one, its first and last bytes among them. A file
 * that cannot be read adds nothing: the code that needs it reports the error.
 */
function addFile(hash: Hash, path: string, times: boolean): void {
  let descriptor: number
  try {
    if (!statSync(path).isFile()) return
    descriptor = openSync(path, 'r')
  } catch {
    return
  }
  closing(descriptor, () => {
    const { size, mtimeMs } = statSync(path)
    const large = size > WHOLE_BYTES
    hash.update(`${size} ${large && times ? mtimeMs : ''}`)
    const windows = large ? WINDOWS : Math.ceil(size / WINDOW_BYTES)
    const bytes = Buffer.alloc(WINDOW_BYTES)
    for (let i = 0; i < windows; i++) {
      const offset = large ? Math.floor(((size - WINDOW_BYTES) * i) / (WINDOWS - 1)) : i * WINDOW_BYTES
      hash.update(bytes.subarray(0, readSync(descriptor, bytes, 0, WINDOW_BYTES, offset)))
    }
  })
}

/** Digest of some bytes: 16 hexadecimal digits. */
export const digestOfBytes = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex').slice(0, 16)

/** Digest of the contents of files: 16 hexadecimal digits. @param times false leaves out when large files were changed: copies are equal. */
export function digestOf(files: readonly string[], times: boolean = true): string {
  const hash = createHash('sha256')
  for (const file of files) addFile(hash, file, times)
  return hash.digest('hex').slice(0, 16)
}

/** Detects files that change during a run. */
export class SourceWatch {
  private readonly stamps: ReadonlyMap<string, string>

  constructor(files: readonly string[]) {
    this.stamps = new Map(files.map(file => [file, stampOf(file)]))
  }

  /** @throws E_SOURCE_CHANGED naming the file. */
  check(): void {
    for (const [file, stamp] of this.stamps) {
      if (stampOf(file) === stamp) continue
      throw new QuantError(
        'E_SOURCE_CHANGED',
        `${file} was changed or removed during the run`,
        `Put it back as it was and run the same command again to go on, or start over with ${option('fresh', true)}.`,
      )
    }
  }
}

/** Codes of the system for a file that is not there, or that we may not read. */
const GONE: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'EACCES'])

/** @throws the error of the system when it does not know. */
function stampOf(file: string): string {
  try {
    const { size, mtimeNs, ctimeNs, ino } = statSync(realpathSync(file), { bigint: true })
    // Programs can set mtime back, as tools that copy files do. They cannot set ctime.
    return `${size} ${mtimeNs} ${ctimeNs} ${ino}`
  } catch (error) {
    if (!GONE.has(systemCode(error))) throw error
    return 'gone'
  }
}
