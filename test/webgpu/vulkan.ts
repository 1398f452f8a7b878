/**
 * @file Jobs on WebGPU, each in a process of its own: a driver may crash or hang there. The driver is that of the machine, or the one
 * unpacked in the folder OMNIQUANT_TEST_VULKAN (.ci/vulkan makes it). Its libraries are for these processes only.
 */

import { spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import type { JobName, Jobs } from './job.ts'

const FOLDER = process.env['OMNIQUANT_TEST_VULKAN']
const ROOT = resolve(import.meta.dirname, '../..')

const DRIVER: Readonly<Record<string, string>> =
  FOLDER === undefined || FOLDER === ''
    ? {}
    : {
        LD_LIBRARY_PATH: join(FOLDER, 'root/usr/lib/x86_64-linux-gnu'),
        VK_ICD_FILENAMES: join(FOLDER, 'lvp.json'),
      }

/** A program takes seconds to compile its shaders in software. */
const JOB_MS = 150_000
const PROBE_MS = 60_000

/** Runs a job. @throws when the process fails, crashes or takes too long, with the end of what it printed. */
export function runJob<Name extends JobName>(
  name: Name,
  input: Jobs[Name]['input'],
  timeout: number = JOB_MS,
): Promise<Jobs[Name]['output']> {
  const args = ['--import', './test/fuzz/typescript.js', 'test/webgpu/job.ts', name, JSON.stringify(input)]
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { ...process.env, NODE_OPTIONS: '', ...DRIVER },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout,
    killSignal: 'SIGKILL',
  })
  let [output, printed] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed = (printed + text).slice(-2000)))
  return new Promise((done, fail) => {
    child.on('error', fail)
    child.on('close', (code, signal) => {
      const [, result] = /^RESULT (.*)$/m.exec(output) ?? []
      // A driver that crashes at exit, after the answer, is no matter here.
      if (result !== undefined) done(JSON.parse(result) as Jobs[Name]['output'])
      else fail(new Error(`${name}: no result, ${signal ?? `exit code ${code}`}\n${printed}`))
    })
  })
}

/** Reason why WebGPU cannot be tested here; undefined where it works. */
export async function missingWebgpu(): Promise<string | undefined> {
  try {
    const { sum } = await runJob('probe', {}, PROBE_MS)
    return sum === 10 ? undefined : `WebGPU computes 1 + 2 + 3 + 4 = ${sum}`
  } catch (error) {
    const lines = String(error).split('\n')
    return lines.find(line => /Error: onnxruntime/.test(line)) ?? lines[0]!
  }
}
