/** @file Runs a command in a process of its own, and ends that at once when the user wants it to end. */

import { type ChildProcess, fork } from 'node:child_process'
import { QuantError } from '../errors.ts'
import { recoverSet } from '../files/file-set.ts'
import { WorkFolder } from '../files/work-folder.ts'
import { isWorthKeeping } from '../quant/resume.ts'
import type { Traces } from '../quant/terms/report.ts'
import { type EngineMessage, receivedError } from './engine-messages.ts'
import { hasTerminal } from './hangup.ts'
import type { Invocation } from './options.ts'
import type { Outcome } from './outcome.ts'
import type { StatusLine } from './progress.ts'

/** Ctrl-C, `kill`, a closed terminal. */
const endingSignals = (): NodeJS.Signals[] => ['SIGINT', 'SIGTERM', ...(hasTerminal() ? (['SIGHUP'] as const) : [])]

const GO_ON = 'Run the same command again to go on from there, or with --fresh to start over.'

/** This file is dist/cli/engine.js when it runs. */
const PROCESS = new URL('./engine-process.js', import.meta.url)

/**
 * Removes what is nothing by itself, unless another run works on the output by now. It never throws.
 * @returns whether something is left for a later run.
 */
async function clearAway({ work: place, output }: Traces): Promise<boolean> {
  const work = await WorkFolder.adopt(place)
  if (!work) return isWorthKeeping(place.path)
  recoverSet(output)
  const kept = isWorthKeeping(place.path)
  if (kept) work.release()
  else work.remove()
  return kept
}

const interrupted = (kept: boolean): QuantError =>
  kept
    ? new QuantError('E_INTERRUPTED', 'interrupted: what was finished is kept', GO_ON)
    : new QuantError('E_INTERRUPTED', 'interrupted: nothing was written')

const notStarted = (error: Error): QuantError =>
  new QuantError(
    'E_ENGINE',
    `the process that works cannot be started: ${error.message}`,
    'Processes, open files or memory are at a limit: `ulimit -a` shows those of this shell.',
  )

/** What to say of a process that ended without an answer. */
function lost(signal: string | null, code: number | null, doing: string, kept: boolean): QuantError {
  const what =
    signal === 'SIGKILL'
      ? 'the process that works was killed, most likely because memory ran out'
      : `the process that works crashed (${signal ?? `exit code ${code}`})`
  return new QuantError(
    'E_ENGINE',
    `${what}${doing === '' ? '' : `, while: ${doing}`}`,
    (kept ? `What was finished is kept. ${GO_ON} ` : '') +
      'A shorter --seq-len needs less memory; OMNIQUANT_DEBUG=1 shows what the process said last.',
  )
}

/**
 * For glibc, which otherwise keeps large pieces of memory that were given back: memory would grow by some MB with every block. From 1 MiB
 * up they go back to the system.
 */
const ALLOCATION = { MALLOC_MMAP_THRESHOLD_: String(2 ** 20) }

/** Of what the process prints: it has no other way to say what onnxruntime or the system makes it say. */
const MAX_PRINTED = 4096

/**
 * Runs the command. Ctrl-C, `kill` and a closed terminal end it at once: what is worth keeping is kept.
 * @throws what the command threw; E_INTERRUPTED; E_ENGINE when its process died.
 */
export function runInEngine(invocation: Invocation, status: StatusLine): Promise<Outcome> {
  const child = fork(PROCESS, [], {
    env: { ...ALLOCATION, ...process.env },
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  // Without a file left to open, there are no pipes to it either.
  if (child.pid === undefined) return new Promise((_, fail) => child.on('error', error => fail(notStarted(error))))
  const stop = new AbortController()
  const onSignal = () => {
    stop.abort()
    child.kill('SIGKILL')
  }
  const signals = endingSignals()
  for (const name of signals) process.on(name, onSignal)
  child.send(invocation, () => {}) // if it cannot be reached, it has ended, and `exit` says so
  return answerOf(child, status, stop.signal).finally(() => {
    for (const name of signals) process.off(name, onSignal)
  })
}

function answerOf(child: ChildProcess, status: StatusLine, stopped: AbortSignal): Promise<Outcome> {
  let traces: Traces | undefined
  let doing = ''
  let printed = ''
  let ending: Extract<EngineMessage, { type: 'outcome' | 'error' }> | undefined
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (printed = (printed + text).slice(-MAX_PRINTED)))
  child.on('message', (message: EngineMessage) => {
    if (message.type === 'working') traces = message.traces
    else if (message.type === 'say') status.say((doing = message.text))
    else if (message.type === 'line') status.line(message.text)
    else ending = message
  })
  return new Promise((done, fail) => {
    child.on('error', fail)
    // Not 'exit': messages and output may still be under way then.
    child.on('close', (code, signal) => {
      if (ending?.type === 'outcome') {
        const { failure, ...outcome } = ending.outcome
        done({ ...outcome, ...(failure && { failure: receivedError(failure) as QuantError }) })
      } else if (ending) fail(receivedError(ending.error))
      else
        void (traces ? clearAway(traces) : Promise.resolve(false)).then(kept => {
          const error = stopped.aborted ? interrupted(kept) : lost(signal, code, doing, kept)
          if (!stopped.aborted) error.stack = printed
          fail(error)
        })
    })
  })
}
