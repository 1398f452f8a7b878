/** @file A task in a process of its own, which ends at once when the caller wants it to end. */

import { type ChildProcess, fork } from 'node:child_process'
import { QuantError } from '../errors.ts'
import { option } from '../option-mark.ts'
import type { Device } from '../kernels/device.ts'
import { goOnOnCpu } from '../kernels/device-failure.ts'
import { forkOptions } from '../process/fork-options.ts'
import { receivedError } from '../process/sent-error.ts'
import type { Traces } from '../quant/terms/report.ts'
import { describeEvent } from './describe-event.ts'
import { engineEnvironment, startOptions } from './environment.ts'
import { clearAway, GO_ON, interrupted } from './interrupted.ts'
import type { EngineMessage, ProgressEvent, Task } from './messages.ts'

/** The built file, because child.ts is dist/engine/child.js when it runs. */
const PROCESS = new URL('./process.js', import.meta.url)

/** Characters of the child's stderr that are kept for reports of crashes. */
const MAX_PRINTED = 4096

const notStarted = (error: Error): QuantError =>
  new QuantError(
    'E_ENGINE',
    `the process that works cannot be started: ${error.message}`,
    'Processes, open files or memory are at a limit: `ulimit -a` shows those of this shell.',
  )

/** Error for a process that ended without an answer. */
function lost(
  device: Device,
  signal: string | null,
  code: number | null,
  { doing, kept, saved }: { readonly doing: string; readonly kept: boolean; readonly saved: string | undefined },
): QuantError {
  const what =
    signal === 'SIGKILL'
      ? 'the process that works was killed, most likely because memory ran out'
      : `the process that works crashed (${signal ?? `exit code ${code}`})`
  return new QuantError(
    'E_ENGINE',
    `${what}${device === 'cpu' ? '' : ` on ${device}`}${doing === '' ? '' : `, while: ${doing}`}`,
    `${device === 'cpu' ? '' : `${goOnOnCpu(device)} `}${saved === undefined ? '' : `${saved} is complete. `}${kept ? `What was finished is kept. ${GO_ON} ` : ''}A shorter ${option('seqLen')} needs less memory; ` +
      'OMNIQUANT_DEBUG=1 shows what the process said last.',
  )
}

/**
 * Runs a task in a child process. Finished blocks stay on the disk when it is aborted.
 * @param device that the process works on, which its environment depends on. @param signal kills the process.
 * @throws the error of the task; E_INTERRUPTED when aborted; E_ENGINE when the process died.
 */
export async function performInChild(
  task: Task,
  device: Device,
  onEvent: (event: ProgressEvent) => void,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  if (signal?.aborted) throw interrupted(false)
  const child = fork(PROCESS, [], forkOptions(engineEnvironment(device, startOptions(task))))
  // Without a file left to open, there are no pipes to it either.
  if (child.pid === undefined) return new Promise((_, fail) => child.on('error', error => fail(notStarted(error))))
  const kill = () => void child.kill('SIGKILL')
  signal?.addEventListener('abort', kill)
  child.send(task, () => {}) // if it cannot be reached, it has ended, and `close` says so
  try {
    return await answerOf(child, device, onEvent, signal)
  } finally {
    signal?.removeEventListener('abort', kill)
  }
}

function answerOf(
  child: ChildProcess,
  device: Device,
  onEvent: (event: ProgressEvent) => void,
  stopped: AbortSignal | undefined,
): Promise<unknown> {
  let traces: Traces | undefined
  let saved: string | undefined
  let doing = ''
  let printed = ''
  let ending: Exclude<EngineMessage, { type: 'event' }> | undefined
  let fault: { readonly error: unknown } | undefined
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (printed = (printed + text).slice(-MAX_PRINTED)))
  child.on('message', (message: EngineMessage) => {
    if (message.type !== 'event') {
      ending = message
      return
    }
    const { event } = message
    if (event.type === 'working') traces = event.traces
    if (event.type === 'saved') saved = event.output
    doing = describeEvent(event) ?? doing
    if (fault) return
    try {
      onEvent(event)
    } catch (error) {
      fault = { error }
      child.kill('SIGKILL')
    }
  })
  return new Promise((done, fail) => {
    child.on('error', fail)
    const onClose = async (code: number | null, signal: string | null) => {
      if (!fault && ending?.type === 'report') return done(ending.report)
      if (!fault && ending?.type === 'error') return fail(receivedError(ending.error))
      const kept = traces ? await clearAway(traces) : false
      if (fault) return fail(fault.error)
      if (stopped?.aborted) return fail(interrupted(kept, saved))
      fail(Object.assign(lost(device, signal, code, { doing, kept, saved }), { stack: printed }))
    }
    // Not 'exit': messages and output may still be under way then.
    child.on('close', (code, signal) => void onClose(code, signal).catch(fail))
  })
}
