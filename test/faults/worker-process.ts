/**
 * @file The parent of a worker: sends tasks, receives outcomes, and sees calls that wait, deaths and hangs. Knows nothing of right
 * results.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { QuantizeOptions } from '../../src/quant/terms/options.ts'
import type { Traces } from '../../src/quant/terms/report.ts'

/** A call of the file system, as inject.js counts them. */
export interface Call {
  readonly n: number
  /** "openSync", "rename", ... */
  readonly name: string
  readonly kind: string
  readonly path?: string
  /** Second path of calls that have two. */
  readonly to?: string
  /** True when the call needs room on the disk. */
  readonly writes: boolean
}

export type Action = 'die' | 'fail' | 'fail-forever' | 'full' | 'half' | 'half-die' | 'half-fail' | 'stop'

export interface Step {
  readonly at: number
  readonly action: Action
  readonly code?: string
}

/** Options a worker can be sent. */
export type TaskOptions = QuantizeOptions

export interface Task {
  readonly options: TaskOptions
  readonly plan?: readonly Step[]
  readonly at?: Readonly<Record<string, 'stop' | 'die'>>
}

export interface TaskError {
  /** True for a QuantError. */
  readonly known: boolean
  readonly code?: string
  readonly message: string
  readonly hint?: string
  readonly stack?: string
  /** Messages of causes, outermost first. */
  readonly causes: readonly string[]
}

export type Outcome =
  | {
      readonly type: 'done'
      readonly calls: readonly Call[]
      readonly traces?: Traces
      /** Number of calls before the run held the output. */
      readonly began: number
    }
  | { readonly type: 'error'; readonly calls: readonly Call[]; readonly traces?: Traces; readonly error: TaskError }
  | { readonly type: 'killed' }
  | { readonly type: 'crashed'; readonly detail: string }
  | { readonly type: 'hangs' }

const INJECT = resolve(import.meta.dirname, 'inject.js')
const WORKER = resolve(import.meta.dirname, 'worker.js')
/** Runs take half a second; the machine may be busy. */
const HANGS_AFTER_MS = 600_000

export class FaultWorker {
  readonly pid: number
  private readonly child: ChildProcess
  private readonly control: Duplex
  private readonly stops: string[] = []
  private waiter: ((stop: string) => void) | undefined
  private readonly exit: Promise<Outcome>
  private readonly ready: Promise<unknown>
  private printed = ''
  private ended = false
  private running = false

  /** @param folder current folder of the process. @param temporary the system's temporary folder for it. */
  constructor(folder: string, temporary: string) {
    if (!existsSync(resolve(import.meta.dirname, '../../dist/index.js')))
      throw new Error('dist/ is missing: run `npm run build` first')
    this.child = fork(WORKER, [], {
      cwd: folder,
      env: { ...process.env, NODE_OPTIONS: '', TMPDIR: temporary },
      execArgv: ['--import', INJECT],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc', 'pipe'],
    })
    this.pid = this.child.pid!
    this.control = this.child.stdio[4] as Duplex
    this.control.setEncoding('utf8').on('data', (text: string) => {
      this.stops.push(...text.trim().split('\n'))
      this.waiter?.(this.stops[0]!)
    })
    this.control.on('error', () => {}) // the process is gone, and `exit` says so
    this.child
      .stderr!.setEncoding('utf8')
      .on('data', (text: string) => (this.printed = (this.printed + text).slice(-2000)))
    this.ready = once(this.child, 'message')
    this.exit = new Promise(done => {
      this.child.on('exit', (code, signal) => {
        this.ended = true
        if (signal === 'SIGKILL') done({ type: 'killed' })
        else done({ type: 'crashed', detail: `${signal ?? `exit code ${code}`} ${this.printed}` })
      })
    })
  }

  get alive(): boolean {
    return !this.ended
  }

  /** Waits for tasks. */
  get idle(): boolean {
    return !this.ended && !this.running
  }

  /** Runs a task to its end. A process that hangs is killed. */
  async run(task: Task): Promise<Outcome> {
    this.running = true
    await Promise.race([this.ready, this.exit])
    const answer = once(this.child, 'message').then(([outcome]) => outcome as Outcome)
    this.child.send({ ...task, plan: task.plan ?? [], at: task.at ?? {} })
    const timer = new AbortController()
    const late = sleep(HANGS_AFTER_MS, undefined, { signal: timer.signal }).then(
      (): Outcome => ({ type: 'hangs' }),
      (): Outcome => ({ type: 'hangs' }),
    )
    const outcome = await Promise.race([answer, this.exit, late])
    timer.abort()
    this.running = false
    if (outcome.type === 'hangs') await this.kill()
    return outcome
  }

  /** Call or event at which the process waits; undefined when `running` ended without waiting. */
  async stopped(running: Promise<Outcome>): Promise<string | undefined> {
    const waiting = new Promise<string>(done => {
      this.waiter = done
      if (this.stops.length > 0) done(this.stops[0]!)
    })
    const stop = await Promise.race([waiting, running.then(() => undefined)])
    this.waiter = undefined
    if (stop !== undefined) this.stops.shift()
    return stop
  }

  /** Lets the process go on. */
  go(): void {
    this.control.write('g')
  }

  async kill(): Promise<void> {
    if (this.ended) return
    this.child.kill('SIGKILL')
    await this.exit
  }
}
