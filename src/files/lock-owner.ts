/** @file Identity of the process that holds a lock, and the check that it still runs. Knows no locks. */

import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { systemCode } from './disk-errors.ts'

/** Placeholder for what the system does not tell. */
const UNKNOWN = '-'

export interface LockOwner {
  readonly pid: number
  /** Start time of the process, because PIDs are reused. */
  readonly started: string
  readonly host: string
  /** Boot id: changes with every start of the machine, and differs between machines of one host name. */
  readonly boot: string
  /** Namespace of its PID: containers number their processes from 1. */
  readonly namespace: string
  /** Differs between two locks of one process. */
  readonly id: string
}

function orUnknown(read: () => string): string {
  try {
    return read().trim()
  } catch {
    return UNKNOWN
  }
}

const bootOf = (): string => orUnknown(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'))

const namespaceOf = (): string => orUnknown(() => readlinkSync('/proc/self/ns/pid'))

/** State (R, S, Z, ...) and start time of a process. */
function statusOf(pid: number): { readonly state: string; readonly started: string } {
  const stat = orUnknown(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))
  // Field 2, a name in parentheses, may hold anything. Field 3 is the state, field 22 the start time.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? UNKNOWN, started: fields[19] ?? UNKNOWN }
}

/** This process, as the owner of a new lock. */
export const thisProcess = (): LockOwner => ({
  pid: process.pid,
  started: statusOf(process.pid).started,
  host: hostname(),
  boot: bootOf(),
  namespace: namespaceOf(),
  id: randomUUID(),
})

/** Owner in the text of a lock; undefined when the text names none. */
export function ownerIn(text: string): LockOwner | undefined {
  try {
    const { pid, started, host, boot, namespace, id } = JSON.parse(text) as Record<string, unknown>
    const texts = { started, host, boot, namespace, id }
    if (!Number.isInteger(pid) || Number(pid) <= 0) return undefined
    if (Object.values(texts).some(value => typeof value !== 'string')) return undefined
    return { pid, ...texts } as LockOwner
  } catch {
    return undefined
  }
}

/** Asks the system for the process; undefined when it is on another machine or in another container. */
export function isRunning({ pid, started, host, boot, namespace }: LockOwner): boolean | undefined {
  if (host !== hostname() || boot !== bootOf() || namespace !== namespaceOf()) return undefined
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (systemCode(error) !== 'EPERM') return false
  }
  const now = statusOf(pid)
  // A zombie is dead: only its parent has not noticed yet.
  if (now.state === 'Z' || now.state === 'X') return false
  return started === UNKNOWN || now.started === UNKNOWN ? undefined : started === now.started
}
