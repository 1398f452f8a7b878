/** @file Tries a device in a process of its own: a crash and a hang are answers too. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { messageOf } from '../errors.ts'
import { option } from '../option-mark.ts'
import { type Device, kindOf } from '../kernels/device.ts'
import { type DeviceProblem, explainDevice } from '../kernels/device-errors.ts'
import { missingProviderFile, unsupportedByCuda } from '../kernels/runtime-folder.ts'
import { forkOptions } from '../process/fork-options.ts'
import type { ProbeAnswer } from './probe-process.ts'

/** The built file, because this file is in dist/engine when it runs. */
const PROCESS = new URL('./probe-process.js', import.meta.url)

/** WebGPU may compile shaders for a minute when it runs a program for the first time. */
const LIMIT_MS = 120_000

/** Characters of the process's stderr that are read. */
const MAX_PRINTED = 65536

/** Outcome for a device. */
export interface Trial {
  readonly device: Device
  readonly seconds: number
  /** Absent for a device that works. */
  readonly failure?: DeviceProblem
}

/** Settings of a trial; the defaults are those of a run in a process of its own. */
export interface Trying {
  readonly env: NodeJS.ProcessEnv
  readonly signal?: AbortSignal | undefined
  readonly limitMs?: number
  /** Process to start instead of the one that tries devices, for tests. */
  readonly program?: string | URL
}

/** A problem that is known without a process: CUDA's provider is not there. */
function knownBeforehand(device: Device): DeviceProblem | undefined {
  if (kindOf(device) !== 'cuda') return undefined
  const unsupported = unsupportedByCuda()
  if (unsupported !== undefined)
    return {
      problem: unsupported,
      remedy: [`${option('device', 'webgpu')} uses the GPU here (docs/gpu.md).`],
    }
  const missing = missingProviderFile()
  return missing === undefined
    ? undefined
    : explainDevice(device, `${missing}: cannot open shared object file: No such file or directory`)
}

/** Runs a small program on a device. @throws the AbortSignal's reason when aborted. */
export async function tryDevice(device: Device, trying: Trying): Promise<Trial> {
  const known = knownBeforehand(device)
  if (known) return { device, seconds: 0, failure: known }
  const started = performance.now()
  const said = await saidBy(device, trying)
  trying.signal?.throwIfAborted()
  const seconds = Math.round((performance.now() - started) / 100) / 10
  return { device, seconds, ...(said !== undefined && { failure: explainDevice(device, said) }) }
}

/** Words of the process about its failure; undefined when the device works. */
async function saidBy(
  device: Device,
  { env, signal, limitMs = LIMIT_MS, program = PROCESS }: Trying,
): Promise<string | undefined> {
  const child = fork(program, [device], forkOptions(env))
  let printed = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (printed = (printed + text).slice(0, MAX_PRINTED)))
  const kill = () => void child.kill('SIGKILL')
  let late = false
  const timer = setTimeout(() => {
    late = true
    kill()
  }, limitMs)
  signal?.addEventListener('abort', kill)
  try {
    let given: ProbeAnswer | undefined
    child.on('message', (message: ProbeAnswer) => {
      given = message
      // What a driver does at the end of its process is of no interest; some crash there.
      kill()
    })
    const [code, name] = (await once(child, 'close')) as [number | null, string | null]
    if (given) return given.failure === undefined ? undefined : `${given.failure}\n${printed}`
    if (late) return `a small program did not end there within ${limitMs / 1000} seconds`
    return `the process that tried it crashed (${name ?? `exit code ${code}`})\n${printed}`
  } catch (error) {
    return `the process that tries it cannot be started: ${messageOf(error)}`
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', kill)
  }
}
