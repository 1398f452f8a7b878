/** @file The door to yauzl: files of a wheel, which is a zip archive. */

import { statSync } from 'node:fs'
import { join, posix } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { openPromise } from 'yauzl'
import { streamToNew } from '../files/atomic-file.ts'

/** A file that was unpacked. */
export interface UnpackedFile {
  readonly name: string
  readonly bytes: number
}

/**
 * Writes the files of a wheel whose paths match into a folder, under the last part of their paths.
 * @throws the error of the system; Error when the archive is damaged (lengths and CRC-32 of each file are compared).
 */
export async function unpack(wheel: string, needed: RegExp, folder: string): Promise<UnpackedFile[]> {
  const archive = await openPromise(wheel, { lazyEntries: true })
  const files: UnpackedFile[] = []
  try {
    for await (const entry of archive.eachEntry()) {
      if (!needed.test(entry.fileName)) continue
      const name = posix.basename(entry.fileName)
      const path = join(folder, name)
      await pipeline(await archive.openReadStreamPromise(entry), streamToNew(path))
      files.push({ name, bytes: statSync(path).size })
    }
  } finally {
    archive.close()
  }
  return files
}
