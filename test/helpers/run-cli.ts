/** @file Runs the command line as users do: another process, bin/omniquant.js, the built files (npm test builds them). */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')

export interface CliResult {
  readonly stdout: string
  /** Without the line about the device, which comes first. */
  readonly stderr: string
  /** That line; undefined for commands that run nothing. */
  readonly device: string | undefined
  /** null when a signal ended the process. */
  readonly exitCode: number | null
}

export interface CliStreams {
  /** Descriptor of a file for stdout; `CliResult.stdout` stays empty then. */
  readonly stdout?: number
  /** Starts the process in a group of its own, for signals that reach all its processes. */
  readonly detached?: boolean
  /** Variables of the environment besides those of this process. */
  readonly env?: NodeJS.ProcessEnv
  /** Folder of the package: this one, or a copy of it. */
  readonly folder?: string
  /** Text on stdin, which ends behind it; "open" for a stdin on which nothing comes (default: none). */
  readonly stdin?: { readonly text: string } | 'open'
}

/** A running process without a terminal. `ended` resolves when it has ended and its output is complete. */
export function startCli(
  args: readonly string[],
  { stdout: file, detached, env: added, folder = root, stdin }: CliStreams = {},
): {
  readonly child: ChildProcess
  readonly ended: Promise<CliResult>
} {
  if (!existsSync(resolve(folder, 'dist/cli/main.js'))) throw new Error('dist/ is missing: run `npm run build` first')
  const env = { ...process.env, OMNIQUANT_DEBUG: '', ...added }
  const child = spawn(process.execPath, [resolve(folder, 'bin/omniquant.js'), ...args], {
    env,
    detached: detached ?? false,
    stdio: [stdin === undefined ? 'ignore' : 'pipe', file ?? 'pipe', 'pipe'],
  })
  if (typeof stdin === 'object') child.stdin!.end(stdin.text)
  const ended = new Promise<CliResult>((done, fail) => {
    let stdout = ''
    let stderr = ''
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk))
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk))
    child.on('error', fail)
    child.on('close', exitCode => {
      const device = /^device: .*\n/.exec(stderr)?.[0]
      done({ stdout, stderr: stderr.slice(device?.length ?? 0), device: device?.trimEnd(), exitCode })
    })
  })
  return { child, ended }
}

export function runCli(...args: readonly string[]): Promise<CliResult> {
  return startCli(args).ended
}
