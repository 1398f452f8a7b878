/** @file The adapter of the net: the one place that knows how omniquant is started. */

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

export const ROOT = resolve(import.meta.dirname, '../..')
const CLI = resolve(ROOT, 'bin/omniquant.js')
const BUILT = resolve(ROOT, 'dist/cli/main.js')
const TIMEOUT_MS = 300_000

/** Settings that change how a run works or what it prints, each with one value for every run. */
const ENVIRONMENT = {
  OMNIQUANT_DEBUG: '',
  MALLOC_MMAP_THRESHOLD_: String(2 ** 20),
  LC_ALL: 'C',
  TZ: 'UTC',
  FORCE_COLOR: '0',
  NODE_OPTIONS: '',
}

/** @throws when the built files are missing. */
export function checkBuilt() {
  if (!existsSync(BUILT)) throw new Error('dist/ is missing: run `npm run build` first')
}

/**
 * Runs the command line in a folder and waits for its end.
 * @param {readonly string[]} args @param {string} cwd
 * @returns {Promise<{ exitCode: number | string, stdout: string, stderr: string }>} exitCode is the signal's name when one ended it.
 */
export function runCommand(args, cwd) {
  const child = spawn(process.execPath, [CLI, ...args], {
    cwd,
    env: { ...process.env, ...ENVIRONMENT },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
    killSignal: 'SIGTERM',
  })
  return new Promise((done, fail) => {
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', chunk => (stdout += chunk))
    child.stderr.setEncoding('utf8').on('data', chunk => (stderr += chunk))
    child.on('error', fail)
    child.on('close', (code, signal) => done({ exitCode: code ?? signal, stdout, stderr }))
  })
}
