/**
 * @file Heartbeat of locks: a thread sets their time of change every few seconds, because onnxruntime blocks the main thread for
 * minutes. Knows paths, no locks.
 */

import { Worker } from 'node:worker_threads'

/** Program of the thread. It touches a path only while the inode is the same, and never the target of a link. */
const THREAD = `
const { parentPort } = require('node:worker_threads')
const { lstatSync, lutimesSync } = require('node:fs')
const timers = new Map()
const beat = (path, inode) => {
  try {
    if (lstatSync(path).ino === inode) lutimesSync(path, Date.now() / 1000, Date.now() / 1000)
  } catch {}
}
parentPort.on('message', ({ path, inode, everyMs }) => {
  clearInterval(timers.get(path))
  timers.delete(path)
  if (inode !== undefined) timers.set(path, setInterval(beat, everyMs, path, inode))
})`

const beating = new Set<string>()

let thread: Worker | undefined

/** Begins to touch a file. Does nothing when the machine refuses a thread. */
export function startHeartbeat(path: string, inode: number, everyMs: number): void {
  try {
    thread ??= startThread()
    thread.postMessage({ path, inode, everyMs })
    beating.add(path)
  } catch {
    // Processes of this machine look for the process itself; only other machines need the heartbeat.
  }
}

export function stopHeartbeat(path: string): void {
  if (!beating.delete(path)) return
  thread?.postMessage({ path })
  if (beating.size > 0) return
  void thread?.terminate()
  thread = undefined
}

function startThread(): Worker {
  // Options of the process may load compilers, which the thread does not need.
  const worker = new Worker(THREAD, { eval: true, execArgv: [], resourceLimits: { maxOldGenerationSizeMb: 16 } })
  worker.on('error', () => {
    if (thread === worker) thread = undefined
  })
  // The process may end while the thread runs.
  worker.unref()
  return worker
}
