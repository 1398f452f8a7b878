/**
 * @file The sign of life of locks: their time of change is set every few seconds, by a thread of its own, because onnxruntime blocks
 * the main one for minutes. Knows paths, no locks.
 */

import { Worker } from 'node:worker_threads'

/** Runs in the thread. It touches a file only as long as it is the one it was told of, and never what a link leads to. */
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

/** Touches a file from now on, until it is stopped. Without a thread, which a machine may refuse, nothing happens. */
export function startHeartbeat(path: string, inode: number, everyMs: number): void {
  try {
    thread ??= startThread()
    thread.postMessage({ path, inode, everyMs })
    beating.add(path)
  } catch {
    // Processes of this machine ask for the process, not for its heartbeat.
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
  // Without options of the process: they load what the thread does not need, such as compilers.
  const worker = new Worker(THREAD, { eval: true, execArgv: [], resourceLimits: { maxOldGenerationSizeMb: 16 } })
  worker.on('error', () => {
    if (thread === worker) thread = undefined
  })
  // Nobody waits for it.
  worker.unref()
  return worker
}
