/** @file The process that holds a lock, as it is written down, and whether it still runs. Knows no locks. */

import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { systemCode } from './disk-errors.ts'

/** Stands for what a system does not tell. */
const UNKNOWN = '-'

export interface LockOwner {
  readonly pid: number
  /** Start time of the process, because PIDs are reused. */
  readonly started: string
  readonly host: string
  /** Changes with every start of the machine, and differs between machines that share a host name. */
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
  // The second field, a name in parentheses, may hold anything. Behind it: state, and the start time as field 22.
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

/** The owner in the text of a lock; undefined when it does not say. */
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

/** Whether the process runs; undefined when that cannot be told from here: it is on another machine, or in another container. */
export function isRunning({ pid, started, host, boot, namespace }: LockOwner): boolean | undefined {
  if (host !== hostname() || boot !== bootOf() || namespace !== namespaceOf()) return undefined
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (systemCode(error) !== 'EPERM') return false
  }
  const now = statusOf(pid)
  // One that is dead and not yet collected by its parent works on nothing.
  if (now.state === 'Z' || now.state === 'X') return false
  return started === UNKNOWN || now.started === UNKNOWN ? undefined : started === now.started
}
