/** @file Runs the command line as users do: another process, bin/omniquant.js, the built files (npm test builds them). */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')

export interface CliResult {
  readonly stdout: string
  readonly stderr: string
  /** null when a signal ended the process. */
  readonly exitCode: number | null
}

export interface CliStreams {
  /** Descriptor of a file for stdout; `CliResult.stdout` stays empty then. */
  readonly stdout?: number
  /** Starts the process in a group of its own, for signals that reach all its processes. */
  readonly detached?: boolean
}

/** A running process without a terminal. `ended` resolves when it has ended and its output is complete. */
export function startCli(
  args: readonly string[],
  { stdout: file, detached }: CliStreams = {},
): {
  readonly child: ChildProcess
  readonly ended: Promise<CliResult>
} {
  if (!existsSync(resolve(root, 'dist/cli/main.js'))) throw new Error('dist/ is missing: run `npm run build` first')
  const env = { ...process.env, OMNIQUANT_DEBUG: '' }
  const child = spawn(process.execPath, [resolve(root, 'bin/omniquant.js'), ...args], {
    env,
    detached: detached ?? false,
    stdio: ['ignore', file ?? 'pipe', 'pipe'],
  })
  const ended = new Promise<CliResult>((done, fail) => {
    let stdout = ''
    let stderr = ''
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk))
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
    child.on('error', fail)
    child.on('close', exitCode => done({ stdout, stderr, exitCode }))
  })
  return { child, ended }
}

export function runCli(...args: readonly string[]): Promise<CliResult> {
  return startCli(args).ended
}
