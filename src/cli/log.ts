/** @file Log of a command: a file of JSON lines, one for each event, with times. */

import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { QuantError } from '../errors.ts'
import { diskError } from '../files/disk-errors.ts'
import { checkReplaceable, statsOf } from '../files/names.ts'
import { printable } from '../printable.ts'

/** Beginning of every line. */
const LINE = '{"time":"'

/** A log that is being written; it is added to what earlier runs wrote. */
export interface Log {
  /** Adds a line. What cannot be written is lost: the work goes on. */
  readonly add: (entry: object) => void
  readonly close: () => void
}

/** True for an empty file, and for one that begins as logs do. */
function looksLikeLog(path: string): boolean {
  const descriptor = openSync(path, 'r')
  try {
    const bytes = Buffer.alloc(LINE.length)
    return (
      bytes.toString('utf8', 0, readSync(descriptor, bytes, 0, LINE.length, 0)) === LINE.slice(0, statsOf(path)?.size)
    )
  } finally {
    closeSync(descriptor)
  }
}

/** Opens a log, or makes one. @throws E_OUTPUT, also for a file that is no log: nothing is added to models or texts. */
export function openLog(path: string): Log {
  checkReplaceable(path)
  let descriptor: number
  try {
    if (statsOf(path) && !looksLikeLog(path))
      throw new QuantError('E_OUTPUT', `${path} is there and is no log`, 'Give another name for the log.')
    descriptor = openSync(path, 'a')
  } catch (error) {
    throw diskError(`cannot write the log ${path}`, error)
  }
  return {
    add: entry => {
      const line = JSON.stringify({ time: new Date().toISOString(), ...entry })
      try {
        writeSync(descriptor, `${printable(line)}\n`)
      } catch {
        // A full disk ends no run for its log.
      }
    },
    close: () => closeSync(descriptor),
  }
}
