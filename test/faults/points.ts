/** @file Faults a run can meet, and a choice of them that leaves out no kind of call. */

import type { Action, Call, Step } from './worker-process.ts'

export interface Point extends Step {
  readonly call: Call
}

/** Errors of an operating system at a call of this kind. */
const CODES: Readonly<Record<string, readonly string[]>> = {
  open: ['EMFILE', 'EACCES'],
  read: ['EIO'],
  write: ['ENOSPC', 'EIO'],
  sync: ['EIO'],
  close: ['EIO'],
  stat: ['EIO'],
  list: ['EMFILE'],
  remove: ['EACCES'],
  rename: ['EACCES'],
  make: ['ENOSPC'],
  copy: ['ENOSPC'],
  truncate: ['ENOSPC'],
  change: ['EPERM'],
}

/** Calls that may move fewer bytes than asked for, and report it. */
const MAY_BE_SHORT = new Set(['read', 'readSync', 'write', 'writeSync'])

/** Every fault at every call. */
export function allPoints(calls: readonly Call[]): Point[] {
  return calls.flatMap(call => {
    const steps: { action: Action; code?: string }[] = [{ action: 'die' }]
    for (const code of CODES[call.kind]!) steps.push({ action: 'fail', code })
    steps.push({ action: 'fail-forever', code: 'EIO' })
    if (call.writes) steps.push({ action: 'full' })
    if (call.kind === 'write' || call.kind === 'copy') steps.push({ action: 'half-die' }, { action: 'half-fail' })
    if (MAY_BE_SHORT.has(call.name)) steps.push({ action: 'half' })
    return steps.map(step => ({ at: call.n, call, ...step }))
  })
}

/** True for calls that change names or wait for the disk: most errors lie there. */
const decides = ({ kind, writes }: Call): boolean =>
  ['rename', 'copy', 'remove', 'make', 'sync'].includes(kind) || (writes && kind === 'open')

/** A path without what differs between runs, as random names do, or between blocks. */
const general = (path: string): string =>
  path
    .replace(/\.[0-9a-f]{16}\./g, '.*.')
    .replace(/-[0-9a-f]{8}\.omniquant/g, '-*.omniquant')
    .replace(/\d+/g, '#')

/** Features by which two points are alike: fault, function and path. */
const likeness = ({ action, code, call: { name, path = '', to = '' } }: Point): string =>
  [action, code, name, general(path), general(to)].join(' ')

/** Deterministic order without a pattern (FNV-1a). */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  return hash
}

/**
 * Choice of points. Of points that are alike it takes the middle one. Deciding kinds come first and get two thirds; then others
 * that write, then the rest. @param folder beginning of paths: the choice does not depend on it.
 */
export function choosePoints(points: readonly Point[], count: number, folder: string): Point[] {
  const kinds = new Map<string, Point[]>()
  for (const point of points) {
    const key = likeness(point).replaceAll(general(folder), '')
    kinds.set(key, [...(kinds.get(key) ?? []), point])
  }
  const sorted = [...kinds].sort(([a], [b]) => hashOf(a) - hashOf(b)).map(([, alike]) => alike[alike.length >> 1]!)
  const deciding = sorted.filter(({ call }) => decides(call))
  const writing = sorted.filter(({ call }) => !decides(call) && call.kind === 'write')
  const others = sorted.filter(({ call }) => !decides(call) && call.kind !== 'write')
  const first = deciding.slice(0, Math.ceil((count * 2) / 3))
  const second = writing.slice(0, Math.ceil((count - first.length) / 2))
  const chosen = [...first, ...second, ...others.slice(0, count - first.length - second.length)]
  return chosen.sort((a, b) => a.at - b.at)
}

/** Name of a point: "57 rename out/.q.onnx.tmp -> out/q.onnx: fail EACCES". */
export function describePoint({ at, action, code, call: { name, path, to } }: Point, folder: string): string {
  const short = (text?: string) => text?.replace(`${folder}/`, '') ?? ''
  return `${at} ${name} ${short(path)}${to === undefined ? '' : ` -> ${short(to)}`}: ${action}${code ? ` ${code}` : ''}`
}
