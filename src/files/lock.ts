/**
 * @file A lock between processes, also of different machines that share a disk: one holds it, and it ends with its process.
 *
 * A lock is a file `<name>.<number>`. Whoever wants it looks at all there are, gives up if the owner of one lives, and else creates the
 * first number that is free: of several that saw the same, one succeeds. Then it looks again: of two that created different numbers,
 * at least one sees the other's. What dead processes left goes last, so there is no moment in which a second one could come in.
 */

import { closeSync, fstatSync, linkSync, lstatSync, readdirSync, readSync, type Stats } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { QuantError } from '../errors.ts'
import { AtomicFile, createFile, removeQuietly, temporariesOf } from './atomic-file.ts'
import { diskError, systemCode } from './disk-errors.ts'
import { makeFolder } from './folders.ts'
import { startHeartbeat, stopHeartbeat } from './heartbeat.ts'
import { isRunning, type LockOwner, ownerIn, thisProcess } from './lock-owner.ts'
import { openPlainFile } from './plain-file.ts'
import { writeFully } from './write-fully.ts'

/** Signs of life of a lock. */
export interface LockTimes {
  /** Milliseconds between two. */
  readonly beatMs: number
  /** A lock whose last one is not older is alive: a machine that swaps may miss some. */
  readonly limitMs: number
}

const TIMES: LockTimes = { beatMs: 5000, limitMs: 60_000 }

/** An older one is watched for so many beats, since the clocks of two machines may differ. */
const WATCHED_BEATS = 3

/** Starters that meet again and again wait for different times in between. */
const ATTEMPTS = 20

const MAX_WAIT_MS = 50

/** A lock's text has some 250 bytes. */
const MAX_TEXT_BYTES = 4096

interface Found {
  readonly path: string
  readonly text: string
  readonly owner: LockOwner | undefined
}

/** Text of a lock file; undefined when there is none, or something else has the name. */
function textOf(path: string): string | undefined {
  try {
    const descriptor = openPlainFile(path)
    try {
      const bytes = Buffer.alloc(Math.min(MAX_TEXT_BYTES, fstatSync(descriptor).size))
      return bytes.toString('utf8', 0, readSync(descriptor, bytes, 0, bytes.length, 0))
    } finally {
      closeSync(descriptor)
    }
  } catch {
    return undefined
  }
}

/** All locks of a name. Links and folders are nobody's: they have no text. */
function locksOf(name: string): Found[] {
  const start = `${basename(name)}.`
  return readdirSync(dirname(name)).flatMap(file => {
    if (!file.startsWith(start) || !/^\d+$/.test(file.slice(start.length))) return []
    const path = join(dirname(name), file)
    const text = textOf(path) ?? ''
    return [{ path, text, owner: ownerIn(text) }]
  })
}

/** Of the name itself, not of what a link leads to; undefined when it is absent or out of reach. */
function statsOf(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch {
    return undefined
  }
}

const lastBeat = (path: string): number | undefined => {
  const stats = statsOf(path)
  return stats?.isFile() ? stats.mtimeMs : undefined
}

/** Whether a living process holds a lock: its system is asked, or else its heartbeat. */
async function isHeld({ path, owner }: Found, { beatMs, limitMs }: LockTimes): Promise<boolean> {
  const running = owner && isRunning(owner)
  if (running !== undefined) return running
  const before = lastBeat(path)
  if (before === undefined) return false
  if (Math.abs(Date.now() - before) <= limitMs) return true
  for (let i = 0; i < WATCHED_BEATS; i++) {
    await sleep(beatMs)
    const now = lastBeat(path)
    if (now !== before) return now !== undefined
  }
  return false
}

/** The path a new lock gets beside the locks there are: the same for all that see the same. */
function freePath(name: string, locks: readonly Found[]): string {
  for (let number = 1; ; number++)
    if (locks.every(({ path }) => basename(path) !== `${basename(name)}.${number}`)) return `${name}.${number}`
}

async function firstHeld(locks: readonly Found[], times: LockTimes): Promise<Found | undefined> {
  for (const lock of locks) if (await isHeld(lock, times)) return lock
  return undefined
}

function refusal({ path, owner }: Found, what: string): QuantError {
  const who = owner ? `process ${owner.pid} on ${owner.host}` : 'another process'
  const asked = owner !== undefined && isRunning(owner) !== undefined
  return new QuantError(
    'E_RESUME',
    `${who} is working on ${what} (${path})`,
    'Wait for it, stop it, or choose another output with -o.' +
      (asked ? '' : ' If it was killed, the same command works a minute after that.'),
  )
}

/** What file systems without hard links say. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EINVAL'])

/** Creates a file with its text in it from the beginning. @returns false when the path is taken, or the folder has just gone. */
function createComplete(name: string, path: string, text: string): boolean {
  let file: AtomicFile | undefined
  try {
    file = new AtomicFile(name)
    file.write(Buffer.from(text))
    file.finish(false)
    linkSync(file.temporary, path)
    return true
  } catch (error) {
    const code = systemCode(error) ?? ''
    if (code === 'EEXIST' || code === 'ENOENT') return false
    if (file === undefined || !NO_LINKS.has(code)) throw error
    return createAndWrite(path, text)
  } finally {
    file?.discard()
  }
}

/** Until its text is there, such a lock is held by an unknown owner, and young. */
function createAndWrite(path: string, text: string): boolean {
  let descriptor: number
  try {
    descriptor = createFile(path)
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    throw error
  }
  try {
    writeFully(descriptor, Buffer.from(text), 0)
    return true
  } finally {
    closeSync(descriptor)
  }
}

export class Lock {
  private readonly path: string
  private readonly text: string
  private readonly inode: number

  private constructor(path: string, text: string, beatMs: number) {
    this.path = path
    this.text = text
    this.inode = lstatSync(path).ino
    startHeartbeat(path, this.inode, beatMs)
  }

  /**
   * Takes the lock of a name, `<folder>/<file>`; the folder is made as needed.
   * @param what is locked, for messages. @throws E_RESUME naming the process that holds it; E_OUTPUT.
   */
  static async take(name: string, what: string, times: LockTimes = TIMES): Promise<Lock> {
    const folder = dirname(name)
    let rival: Found | undefined
    for (let i = 0; i < ATTEMPTS; i++) {
      makeFolder(folder)
      try {
        const left = locksOf(name)
        const held = await firstHeld(left, times)
        if (held) throw refusal(held, what)
        const path = freePath(name, left)
        const text = JSON.stringify(thisProcess())
        if (createComplete(name, path, text)) {
          const isNew = (lock: Found) =>
            lock.path !== path && !left.some(other => other.path === lock.path && other.text === lock.text)
          rival = await firstHeld(locksOf(name).filter(isNew), times)
          if (!rival) {
            // Temporary files of others that are starting may be among these: they look again, and see this lock.
            for (const { path: old } of left) removeQuietly(old)
            temporariesOf(name).forEach(removeQuietly)
            return new Lock(path, text, times.beatMs)
          }
          removeQuietly(path)
        }
      } catch (error) {
        if (systemCode(error) !== 'ENOENT') throw diskError(`cannot write to ${folder}`, error)
      }
      await sleep(Math.random() * MAX_WAIT_MS)
    }
    if (rival) throw refusal(rival, what)
    throw new QuantError('E_OUTPUT', `${folder} is removed again and again`, 'Choose another output folder with -o.')
  }

  /** @throws E_OUTPUT when the disk does not say; E_RESUME when another process has taken this one for dead, as it may when this machine has slept. */
  check(): void {
    let ours: boolean
    try {
      ours = this.isOurs()
    } catch (error) {
      throw diskError(`cannot read ${this.path}`, error)
    }
    if (ours) return
    throw new QuantError(
      'E_RESUME',
      `the lock of this run is gone (${this.path}): another run may have taken its place`,
      'Run the same command again, once no other run is working on this output.',
    )
  }

  /** Gives the lock free. It never throws, and leaves a lock alone that is another process's by now. */
  release(): void {
    stopHeartbeat(this.path)
    try {
      if (this.isOurs()) removeQuietly(this.path)
    } catch {
      // It goes with its process.
    }
  }

  /** Its text says so; where it cannot be read, because too many files are open, its inode does. @throws the error of the system. */
  private isOurs(): boolean {
    const text = textOf(this.path)
    if (text !== undefined) return text === this.text
    return lstatSync(this.path, { throwIfNoEntry: false })?.ino === this.inode
  }
}
