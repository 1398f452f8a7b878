/**
 * @file A lock between processes, also of different machines that share a disk. One process holds it; it ends with that process.
 *
 * A lock is a file `<name>.<number>`. A process that wants the lock reads all such files and gives up if the owner of one lives.
 * Otherwise it creates the first free number: of several processes that saw the same files, one succeeds. Then it reads again: of two
 * processes that created different numbers, at least one sees the other's file. Files of dead processes are removed last, so that no
 * other process can enter in between.
 */

import { fstatSync, linkSync, lstatSync, readdirSync, readSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { QuantError } from '../errors.ts'
import { AtomicFile, createFile, removeQuietly, temporariesOf } from './atomic-file.ts'
import { closing } from './closing.ts'
import { diskError, systemCode } from './disk-errors.ts'
import { makeFolder } from './folders.ts'
import { startHeartbeat, stopHeartbeat } from './heartbeat.ts'
import { isRunning, type LockOwner, ownerIn, thisProcess } from './lock-owner.ts'
import { statsOf } from './names.ts'
import { openPlainFile } from './plain-file.ts'
import { writeFully } from './write-fully.ts'

/** Times of heartbeats. */
export interface LockTimes {
  /** Milliseconds between two heartbeats. */
  readonly beatMs: number
  /** A lock whose last heartbeat is younger is alive. Long, because a machine that swaps misses some. */
  readonly limitMs: number
}

const TIMES: LockTimes = { beatMs: 5000, limitMs: 60_000 }

/** Heartbeats to wait for before an older lock counts as dead, because the clocks of two machines may differ. */
const WATCHED_BEATS = 3

/** Attempts to take a lock; processes that start together wait for random times in between. */
const ATTEMPTS = 20

const MAX_WAIT_MS = 50

/** Most bytes read of a lock's text, which has some 250. */
const MAX_TEXT_BYTES = 4096

interface Found {
  readonly path: string
  readonly text: string
  readonly owner: LockOwner | undefined
}

/** Text of a lock file; undefined when there is none, or something else has the name. */
function textOf(path: string): string | undefined {
  try {
    return closing(openPlainFile(path), descriptor => {
      const bytes = Buffer.alloc(Math.min(MAX_TEXT_BYTES, fstatSync(descriptor).size))
      return bytes.toString('utf8', 0, readSync(descriptor, bytes, 0, bytes.length, 0))
    })
  } catch {
    return undefined
  }
}

/** All locks of a name. Links and folders have no text, and so no owner. */
function locksOf(name: string): Found[] {
  const start = `${basename(name)}.`
  return readdirSync(dirname(name)).flatMap(file => {
    if (!file.startsWith(start) || !/^\d+$/.test(file.slice(start.length))) return []
    const path = join(dirname(name), file)
    const text = textOf(path) ?? ''
    return [{ path, text, owner: ownerIn(text) }]
  })
}

const lastBeat = (path: string): number | undefined => {
  const stats = statsOf(path, lstatSync)
  return stats?.isFile() ? stats.mtimeMs : undefined
}

/** True when a living process holds the lock. Asks the system for the process, or waits for its heartbeat. */
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

/** Path of a new lock: the first free number. Processes that see the same locks choose the same path. */
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

/** Errors of file systems without hard links. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EINVAL'])

/** Creates a lock file that is never seen without its text. @returns false when the path is taken or the folder was removed. */
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

/** Creates a lock file, then writes its text. In between its owner is unknown, and its youth keeps it alive. */
function createAndWrite(path: string, text: string): boolean {
  let descriptor: number
  try {
    descriptor = createFile(path)
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    throw error
  }
  closing(descriptor, file => writeFully(file, Buffer.from(text), 0))
  return true
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
            // These may be temporary files of processes that are starting: they read again, and see this lock.
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

  /**
   * Checks that the lock is still ours.
   * @throws E_RESUME when another process took this one for dead, as after a sleep of the machine; E_OUTPUT when the disk fails.
   */
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

  /** Releases the lock. It never throws, and leaves the lock of another process alone. */
  release(): void {
    stopHeartbeat(this.path)
    try {
      if (this.isOurs()) removeQuietly(this.path)
    } catch {
      // It goes with its process.
    }
  }

  /** Compares the text; or the inode, when the text cannot be read because too many files are open. @throws the error of the system. */
  private isOurs(): boolean {
    const text = textOf(this.path)
    if (text !== undefined) return text === this.text
    return lstatSync(this.path, { throwIfNoEntry: false })?.ino === this.inode
  }
}
