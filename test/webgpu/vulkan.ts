/**
 * @file Jobs on WebGPU in another process, because a driver may crash or hang there. The driver is that of the machine, or the one
 * unpacked in the folder OMNIQUANT_TEST_VULKAN (.ci/vulkan makes it). Its libraries are for that process only.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { join, resolve } from 'node:path'
import type { Answer, JobName, Jobs } from './job.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const FOLDER = process.env['OMNIQUANT_TEST_VULKAN']

const DRIVER: Readonly<Record<string, string>> = FOLDER
  ? { LD_LIBRARY_PATH: join(FOLDER, 'lib'), VK_ICD_FILENAMES: join(FOLDER, 'lvp.json') }
  : {}

/** Longest job, for what hangs. A program takes seconds to compile its shaders in software, and the machine may be busy. */
const JOB_MS = 900_000

interface Worker {
  readonly child: ChildProcess
  /** End of what the process printed. */
  printed: string
}

let worker: Worker | undefined

function start(): Worker {
  const child = fork(join(import.meta.dirname, 'job.ts'), [], {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: '', ...DRIVER },
    execArgv: ['--import', './test/fuzz/typescript.js'],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const started: Worker = { child, printed: '' }
  child
    .stderr!.setEncoding('utf8')
    .on('data', (text: string) => (started.printed = (started.printed + text).slice(-2000)))
  child.on('exit', () => {
    if (worker === started) worker = undefined
  })
  return started
}

/** Runs a job; one at a time. @throws the error of the job; also when the process crashes, or takes too long and is killed. */
export function runJob<Name extends JobName>(
  name: Name,
  input: Jobs[Name]['input'],
  timeout: number = JOB_MS,
): Promise<Jobs[Name]['output']> {
  const used = (worker ??= start())
  const { child } = used
  return new Promise<Jobs[Name]['output']>((done, fail) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), timeout)
    const onClose = (code: number | null, signal: string | null) => {
      clearTimeout(timer)
      fail(new Error(`${name}: no answer, ${signal ?? `exit code ${code}`}\n${used.printed}`))
    }
    child.once('close', onClose)
    child.once('message', (answer: Answer) => {
      clearTimeout(timer)
      child.off('close', onClose)
      if (answer.error === undefined) done(answer.output as Jobs[Name]['output'])
      else fail(new Error(answer.error))
    })
    child.send({ name, input }, () => {}) // if it cannot be reached, it has ended, and `close` says so
  })
}

/** Ends the process. A driver that crashes at its exit is no matter. */
export function endJobs(): void {
  worker?.child.kill('SIGKILL')
}

/** Reason why WebGPU cannot be tested here; undefined where it works. */
export async function missingWebgpu(): Promise<string | undefined> {
  try {
    const sum = await runJob('probe', {})
    return sum === 10 ? undefined : `WebGPU computes 1 + 2 + 3 + 4 = ${sum}`
  } catch (error) {
    return (error as Error).message.split('\n')[0]!
  }
}
