/** @file Writes all bytes of a buffer: one system call may write fewer. */

import { writeSync } from 'node:fs'

/** Bytes of one system call; Linux itself stops short of 2 GiB. */
const MAX_BYTES_PER_CALL = 2 ** 30

/** Writes all bytes at a position of an open file. */
export function writeFully(descriptor: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;)
    done += writeSync(descriptor, bytes, done, Math.min(bytes.length - done, MAX_BYTES_PER_CALL), position + done)
}
