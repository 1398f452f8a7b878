/** @file Processes for the further devices of a run, started when they are first needed. */

import { type ChildProcess, fork } from 'node:child_process'
import { extname } from 'node:path'
import { QuantError } from '../errors.ts'
import type { Device } from './device.ts'
import { forkOptions } from '../process/fork-options.ts'
import { receivedError } from '../process/sent-error.ts'
import type { DeviceAnswer, DeviceRequest } from './device-messages.ts'
import type { Tensors } from './session.ts'

/** The built file where this one is built. */
const PROCESS = new URL(`./device-process${extname(import.meta.url)}`, import.meta.url)

/** Time from the end of a program to that of an unused process. */
const IDLE_MS = 30_000

type Unnumbered<Request> = Request extends unknown ? Omit<Request, 'id'> : never

/** A request under way. */
export interface Request {
  readonly id: number
  /** Settles when everything is written: until then this process must not be blocked. */
  readonly sent: Promise<void>
  /** Rejects with the error of the device, or with E_ENGINE when its process has ended. */
  readonly outputs: Promise<Tensors>
}

interface Waiting {
  readonly done: (outputs: Tensors) => void
  readonly fail: (error: Error) => void
}

/** The process of a device. */
export class DeviceWorker {
  readonly device: Device
  private readonly child: ChildProcess
  private readonly waiting = new Map<number, Waiting>()
  private requests = 0
  private sessions = 0
  private ending: NodeJS.Timeout | undefined
  private end: QuantError | undefined

  constructor(device: Device) {
    this.device = device
    this.child = fork(PROCESS, [], forkOptions(process.env, 'inherit'))
    this.child.on('message', (answer: DeviceAnswer) => this.take(answer))
    this.child.on('error', error => this.lose(error.message))
    this.child.on('close', (code, signal) => this.lose(signal ?? `exit code ${code}`))
    this.idle()
  }

  get alive(): boolean {
    return this.end === undefined
  }

  get pid(): number | undefined {
    return this.child.pid
  }

  /** Sends a request; its answer comes later. */
  ask(request: Unnumbered<DeviceRequest>): Request {
    const id = this.requests++
    const outputs = new Promise<Tensors>((done, fail) => this.waiting.set(id, { done, fail }))
    outputs.catch(() => {}) // whoever asked looks at it later, if at all
    this.child.channel?.ref()
    if (this.end) this.lose('')
    // What cannot be sent is told by `close`.
    const sent = new Promise<void>(done => this.child.send({ ...request, id }, () => done()))
    return { id, sent, outputs }
  }

  /** Keeps the process until `leave` was called as often. */
  enter(): void {
    this.sessions++
    clearTimeout(this.ending)
  }

  /** The process ends when it is not used again soon. */
  leave(): void {
    this.sessions--
    if (this.sessions === 0) this.ending = setTimeout(() => this.child.kill('SIGKILL'), IDLE_MS).unref()
  }

  private take({ id, outputs = {}, error }: DeviceAnswer): void {
    const { done, fail } = this.waiting.get(id)!
    this.waiting.delete(id)
    if (error) fail(receivedError(error))
    else done(outputs)
    this.idle()
  }

  /** Lets this process end while nothing is asked. */
  private idle(): void {
    if (this.waiting.size > 0) return
    this.child.unref()
    this.child.channel?.unref()
  }

  private lose(why: string): void {
    this.end ??= new QuantError(
      'E_ENGINE',
      `the process of the device ${this.device} ended (${why})`,
      'Finished blocks are kept. If memory ran out there, use fewer devices.',
    )
    for (const { fail } of this.waiting.values()) fail(this.end)
    this.waiting.clear()
  }
}

/** Processes of the second device, the third, ... They outlive a program, because a GPU takes seconds to start. */
const workers: DeviceWorker[] = []

/** Processes for the further devices; those of earlier programs are used again. */
export function workersFor(devices: readonly Device[]): DeviceWorker[] {
  return devices.map((device, i) => {
    const worker = workers[i]
    if (worker?.alive && worker.device === device) return worker
    return (workers[i] = new DeviceWorker(device))
  })
}
