/**
 * @file The folder a run works in: what it has finished, under names, so that the same run can go on from there. One process at a
 * time. Knows no model; what is stored is its users' business.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { messageOf, QuantError } from '../errors.ts'
import { diskHint } from './disk-errors.ts'
import { readRecord, writeRecord } from './record.ts'

/** What makes two runs the same, in words, by what it is about ("epochs": "4"). */
export type Signature = Readonly<Record<string, string>>

const RUN = 'run'
const LOCK = 'lock'
const RECORD = '.record'

/** Unless there is one, the folder is made, with those above it. */
function makeFolder(path: string): string | undefined {
  try {
    return mkdirSync(path, { recursive: true })
  } catch (error) {
    // A read-only disk says that there is no such folder: no use asking what it was.
    const hint = 'Choose another output folder with -o, or another place for its work with --work-dir.'
    throw new QuantError('E_OUTPUT', `cannot write to ${path}: ${messageOf(error)}`, hint)
  }
}

/** When the process began, where that can be told: numbers of processes are given again, in containers soon. */
function startOf(pid: number): string {
  try {
    // Field 22; the second one, a name in parentheses, may hold anything.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]!
  } catch {
    return '-'
  }
}

function isRunning(pid: number, start: string): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  return startOf(pid) === start
}

export class WorkFolder {
  readonly path: string
  /** Whether an earlier run of the same kind left something here. */
  readonly resumed: boolean
  /** The uppermost folder that was made for this one. */
  readonly made: string | undefined

  private constructor(path: string, resumed: boolean, made: string | undefined) {
    this.path = path
    this.resumed = resumed
    this.made = made
  }

  /**
   * Opens the folder of a run, or makes it. What an earlier run with the same signature left is kept, unless `fresh`.
   * @throws E_RESUME when another run is working there or left something there, or what is there cannot be read; E_OUTPUT.
   */
  static open(path: string, signature: Signature, fresh: boolean): WorkFolder {
    const made = makeFolder(path)
    // What is locked by another run is not ours to clear away either.
    lock(path)
    try {
      if (fresh) empty(path)
      const resumed = existsSync(join(path, RUN + RECORD))
      const folder = new WorkFolder(path, resumed, made)
      if (!resumed) {
        // Only what we made ourselves is ours to clear away.
        if (strangers(path).length > 0) throw notOurs(path)
        folder.write(RUN, signature)
      } else checkSignature(path, folder.read(RUN) as Signature, signature)
      return folder
    } catch (error) {
      unlock(path)
      if (made !== undefined) removeFolders(path, made)
      throw error
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

  /** Takes the place of what has the name, at once. @param durable also when the machine goes down now. @throws E_OUTPUT */
  write(name: string, value: unknown, durable = true): void {
    writeRecord(this.file(name + RECORD), value, durable)
  }

  forget(name: string): void {
    rmSync(this.file(name + RECORD), { force: true })
  }

  /** Removes everything but records and the files of these names. */
  removeAllBut(names: readonly string[]): void {
    for (const name of readdirSync(this.path))
      if (isOurs(name) && name !== LOCK && !name.endsWith(RECORD) && !names.includes(name)) rmSync(this.file(name))
  }

  /** Leaves the folder as it is, for a later run. */
  release(): void {
    unlock(this.path)
  }

  /** Removes what is in the folder, the folder, and those made for it as long as they are empty. */
  remove(): void {
    discardWorkFolder(this.path, this.made)
  }
}

const isOurs = (name: string): boolean => name === LOCK || /\.(record|f32|tmp)$/.test(name)

/** Files of others: a folder given with --work-dir may hold anything. */
const strangers = (path: string): string[] => readdirSync(path).filter(name => !isOurs(name))

/** Removes the work folder at `path`, if it is there, and empty folders above it up to `made`. */
export function discardWorkFolder(path: string, made: string | undefined): void {
  if (!existsSync(path)) return
  for (const name of readdirSync(path)) if (isOurs(name)) rmSync(join(path, name))
  removeFolders(path, made ?? path)
}

const notOurs = (path: string): QuantError =>
  new QuantError(
    'E_OUTPUT',
    `${path} holds other files: ${strangers(path).slice(0, 3).join(', ')}`,
    'Give an empty or new folder with --work-dir.',
  )

function empty(path: string): void {
  if (strangers(path).length > 0) throw notOurs(path)
  for (const name of readdirSync(path)) if (name !== LOCK) rmSync(join(path, name))
}

function lock(path: string): void {
  const file = join(path, LOCK)
  const mine = `${process.pid} ${startOf(process.pid)} ${hostname()}`
  try {
    writeFileSync(file, mine, { flag: 'wx' })
    return
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new QuantError('E_OUTPUT', `cannot write to ${path}: ${messageOf(error)}`, diskHint(error))
  }
  const [pid, start = '', host] = readFileSync(file, 'utf8').split(' ')
  if (host === hostname() && Number(pid) > 0 && isRunning(Number(pid), start))
    throw new QuantError(
      'E_RESUME',
      `process ${pid} is working on this output (in ${path})`,
      'Wait for it, stop it, or choose another output with -o.',
    )
  // Its process is gone, killed most likely. Of another machine's we cannot know: the folder is on a disk they share.
  writeFileSync(file, mine)
}

const unlock = (path: string): void => rmSync(join(path, LOCK), { force: true })

function checkSignature(path: string, found: Signature, wanted: Signature): void {
  const keys = [...new Set([...Object.keys(wanted), ...Object.keys(found)])]
  const different = keys.filter(key => found[key] !== wanted[key])
  if (different.length === 0) return
  const [key] = different as [string]
  throw new QuantError(
    'E_RESUME',
    `an unfinished run for this output is another one: its ${key} was ${found[key] ?? 'not given'}, ` +
      `now it is ${wanted[key] ?? 'not given'} (${path})`,
    'Give the model and the options it was started with to go on, or --fresh to start over.',
  )
}

/** Removes `folder` and the empty folders above it, up to and including `last`. */
function removeFolders(folder: string, last: string): void {
  for (let current = folder; ; current = dirname(current)) {
    if (readdirSync(current).length > 0) return
    rmdirSync(current)
    if (current === last) return
  }
}
