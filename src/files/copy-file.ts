/** @file Copies and compares contents of files, one piece at a time. */

import { fstatSync, readSync } from 'node:fs'
import type { AtomicFile } from './atomic-file.ts'
import { closing } from './closing.ts'
import { openPlainFile } from './plain-file.ts'

const PIECE_BYTES = 2 ** 20

/** Reads until the buffer is full or the file ends. @returns bytes read. */
function fill(descriptor: number, buffer: Uint8Array, position: number): number {
  let done = 0
  for (let got = -1; got !== 0 && done < buffer.length; done += got)
    got = readSync(descriptor, buffer, done, buffer.length - done, position + done)
  return done
}

/** Appends the content of a plain file to another file. @throws the error of the system. */
export function copyInto(target: AtomicFile, path: string): void {
  closing(openPlainFile(path), descriptor => {
    const buffer = new Uint8Array(PIECE_BYTES)
    for (let position = 0; ;) {
      const got = fill(descriptor, buffer, position)
      target.write(buffer.subarray(0, got))
      if (got < buffer.length) return
      position += got
    }
  })
}

/** Compares two plain files byte by byte. @throws the error of the system. */
export const sameContent = (a: string, b: string): boolean =>
  closing(openPlainFile(a), first => closing(openPlainFile(b), second => sameBytes(first, second)))

function sameBytes(a: number, b: number): boolean {
  if (fstatSync(a).size !== fstatSync(b).size) return false
  const [ours, theirs] = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)]
  for (let position = 0; ;) {
    const got = fill(a, ours, position)
    if (fill(b, theirs, position) !== got || !ours.subarray(0, got).equals(theirs.subarray(0, got))) return false
    if (got < PIECE_BYTES) return true
    position += got
  }
}
