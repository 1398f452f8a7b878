/**
 * @file Faults at calls of the file system, as SQLite's tests have them: `node --import ./test/faults/inject.js`. Every call of node:fs
 * that touches a path outside of this repository is counted. At the counts of a plan the process dies, or the call fails, is done by
 * half, or waits until the test says go on. Calls of other threads (the heartbeat of locks) are neither counted nor disturbed: when
 * they come depends on the clock. Steered by `globalThis[Symbol.for('omniquant.faults')]`, or by OMNIQUANT_FAULTS.
 */

import { Buffer } from 'node:buffer'
import fs from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { constants } from 'node:os'
import { dirname, resolve, sep } from 'node:path'
import process from 'node:process'
import { fileURLToPath, URL } from 'node:url'
import { isMainThread } from 'node:worker_threads'

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
/** Folders whose files are not counted: those of modules, and those that the system only shows as files. */
const IGNORED = [ROOT, '/proc', '/sys', '/dev', dirname(process.execPath)]
/** Socket to the test. A waiting call reads from it. */
const CONTROL = 4

/** Effect of a call, by its name without "Sync". Other names are not calls of the file system. */
const KINDS = {
  ...{ open: 'open', read: 'read', readv: 'read', readFile: 'read', write: 'write', writev: 'write' },
  ...{ writeFile: 'write', appendFile: 'write', fsync: 'sync', fdatasync: 'sync', sync: 'sync', datasync: 'sync' },
  ...{ close: 'close', stat: 'stat', lstat: 'stat', fstat: 'stat', exists: 'stat', access: 'stat', realpath: 'stat' },
  ...{ native: 'stat', statfs: 'stat', readlink: 'stat', readdir: 'list', opendir: 'list', rm: 'remove' },
  ...{ unlink: 'remove', rmdir: 'remove', rename: 'rename', link: 'rename', symlink: 'rename', mkdir: 'make' },
  ...{ mkdtemp: 'make', copyFile: 'copy', cp: 'copy', ftruncate: 'truncate', truncate: 'truncate', chmod: 'change' },
  ...{ fchmod: 'change', lchmod: 'change', chown: 'change', fchown: 'change', lchown: 'change', utimes: 'change' },
  ...{ futimes: 'change', lutimes: 'change' },
}
const NEEDS_ROOM = new Set(['write', 'sync', 'make', 'copy', 'truncate'])
const TEXTS = {
  ...{ ENOSPC: 'no space left on device', EIO: 'i/o error', EMFILE: 'too many open files' },
  ...{ EACCES: 'permission denied', EPERM: 'operation not permitted', EXDEV: 'cross-device link not permitted' },
}

const original = { ...fs }
const baseName = name => name.replace(/Sync$/, '')

let plan
let log = []
const paths = new Map() // descriptor -> path

function pathOf(target) {
  if (typeof target === 'number') return paths.get(target)
  if (target instanceof URL) return fileURLToPath(target)
  if (typeof target === 'string') return resolve(target)
  if (Buffer.isBuffer(target)) return resolve(target.toString())
  return undefined
}

const isCounted = path =>
  path !== undefined && !IGNORED.some(folder => path === folder || path.startsWith(folder + sep))

/** True when a call to open makes the file, or may change it. */
const opensForWriting = flags =>
  typeof flags === 'number' ? (flags & 3) !== 0 : typeof flags === 'string' && /[wa+]/.test(flags)

function die() {
  process.kill(process.pid, 'SIGKILL')
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
}

/** Blocks the process until the test answers. */
function pause(label) {
  original.writeSync(CONTROL, `${label}\n`)
  original.readSync(CONTROL, Buffer.alloc(1), 0, 1, null)
}

function failure({ n, name, path, to }, code) {
  const syscall = baseName(name)
  const where = `${path === undefined ? '' : ` '${path}'`}${to === undefined ? '' : ` -> '${to}'`}`
  const error = new Error(`${code}: ${TEXTS[code] ?? 'injected'}, ${syscall}${where} [call ${n}]`)
  return Object.assign(error, { code, errno: -(constants.errno[code] ?? 5), syscall, path })
}

/** Counts a call. @returns undefined when the call is to be made, or what happens in its place. */
function meet(name, path, to, flags) {
  const base = baseName(name)
  const kind = KINDS[base]
  const writes = NEEDS_ROOM.has(kind) || (kind === 'open' && opensForWriting(flags))
  const call = { n: log.length, name, kind, path, to, writes }
  log.push(call)
  const step = plan.find(({ at, action }) =>
    action === 'fail-forever' ? call.n >= at : action === 'full' ? call.n >= at && writes : call.n === at,
  )
  if (step === undefined) return undefined
  switch (step.action) {
    case 'die':
      return die()
    case 'stop':
      return pause(`${call.n} ${name} ${path}`)
    case 'full':
      return { error: failure(call, 'ENOSPC') }
    case 'fail':
    case 'fail-forever':
      return { error: failure(call, step.code) }
    case 'half':
      return { half: true }
    case 'half-die':
      return { half: true, after: die }
    case 'half-fail':
      return {
        half: true,
        after: () => {
          throw failure(call, 'ENOSPC')
        },
      }
    default:
      throw new Error(`no such fault: ${step.action}`)
  }
}

/** Arguments of a call that moves half as much. */
function halved(base, args) {
  if (base === 'writeFile' || base === 'appendFile') {
    const [target, data, ...rest] = args
    const bytes = Buffer.from(data)
    return [target, bytes.subarray(0, bytes.length >> 1), ...rest]
  }
  if (base !== 'write' && base !== 'read') return args
  const ahead = typeof args[0] === 'number' ? [args[0]] : []
  const [data, first, second, third] = args.slice(ahead.length)
  if (typeof data === 'string') {
    const bytes = Buffer.from(data)
    return [...ahead, bytes, 0, Math.max(1, bytes.length >> 1), typeof first === 'number' ? first : null]
  }
  const given = typeof first === 'object' && first !== null ? first : { offset: first, length: second, position: third }
  const offset = given.offset ?? 0
  const length = given.length ?? data.byteLength - offset
  return [...ahead, data, offset, Math.max(1, length >> 1), given.position ?? null]
}

/** Cuts a copied file to half its size. */
function truncateCopy(base, to) {
  if (base === 'copyFile') original.truncateSync(to, original.statSync(to).size >> 1)
}

/** A file handle whose calls are counted as well. */
function watchHandle(handle, path) {
  const methods = new Set([...Object.getOwnPropertyNames(Object.getPrototypeOf(handle)), 'close'])
  for (const name of methods) {
    if (KINDS[name] === undefined || typeof handle[name] !== 'function') continue
    Object.defineProperty(handle, name, { value: replacement(name, handle[name].bind(handle), 'handle', path) })
  }
  return handle
}

/** Wraps `call`: the plan may change what it does. @param style how the result is given back. */
function replacement(name, call, style, handlePath) {
  const base = baseName(name)
  const kind = KINDS[base]
  const two = kind === 'rename' || kind === 'copy'

  const track = (args, path, result) => {
    if (base === 'open' && typeof result === 'number') paths.set(result, path)
    else if (base === 'open' && plan !== undefined && isCounted(path)) watchHandle(result, path)
    if (base === 'close' && style === 'sync') paths.delete(args[0])
    return result
  }

  return function (...args) {
    const path = handlePath ?? pathOf(args[0])
    const to = two ? pathOf(args[1]) : undefined
    const counted = plan !== undefined && (isCounted(path) || (to !== undefined && isCounted(to)))
    const fault = counted ? meet(name, path, to, base === 'open' ? args[1] : undefined) : undefined
    const run = given => Reflect.apply(call, this, given)

    if (style === 'sync') {
      if (!fault) return track(args, path, run(args))
      if (fault.half) {
        const result = run(halved(base, args))
        truncateCopy(base, to)
        fault.after?.()
        return result
      }
      if (kind === 'close') run(args) // the descriptor is gone even when close fails
      if (base === 'exists') return false
      throw fault.error
    }
    if (style === 'callback') {
      if (!fault?.error) return run(args)
      const done = args.at(-1)
      process.nextTick(() => (base === 'exists' ? done(false) : done(fault.error)))
      return undefined
    }
    return (async () => {
      if (!fault) return track(args, path, await run(args))
      if (fault.half) {
        const result = await run(halved(base, args))
        truncateCopy(base, to)
        fault.after?.()
        return result
      }
      if (kind === 'close') await run(args)
      throw fault.error
    })()
  }
}

/** Copies the properties of the function: its name, `realpathSync.native`, its promisified form. */
function replaced(name, call, style) {
  const made = replacement(name, call, style)
  for (const [key, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(call)))
    if (key !== 'prototype') Object.defineProperty(made, key, descriptor)
  for (const symbol of Object.getOwnPropertySymbols(call)) made[symbol] = call[symbol]
  if (typeof call.native === 'function') made.native = replacement(name, call.native, style)
  return made
}

for (const [name, call] of Object.entries(fs)) {
  if (typeof call !== 'function' || KINDS[baseName(name)] === undefined) continue
  fs[name] = replaced(name, call, name.endsWith('Sync') ? 'sync' : 'callback')
}
for (const [name, call] of Object.entries(promises))
  if (typeof call === 'function' && KINDS[name] !== undefined) promises[name] = replaced(name, call, 'promise')
syncBuiltinESMExports()

const faults = {
  /** Starts to count. @param steps [{ at, action, code }]; none to count only. */
  arm(steps) {
    plan = steps
    log = []
  },
  /** Calls since `arm`. */
  disarm() {
    plan = undefined
    return log
  },
  count: () => log.length,
  die,
  pause,
}
globalThis[Symbol.for('omniquant.faults')] = faults

/** Settings for processes that others start: { process: end of its script's name, plan, log: file for the calls }. */
const asked = process.env.OMNIQUANT_FAULTS
if (asked !== undefined && isMainThread) {
  const { process: script, plan: steps, log: file } = JSON.parse(asked)
  if (process.argv[1]?.endsWith(script)) {
    faults.arm(steps)
    process.on('exit', () => {
      const calls = faults.disarm()
      if (file !== undefined) original.writeFileSync(file, JSON.stringify(calls))
    })
  }
}
