/** @file Settings of our child processes. */

import type { ForkOptions } from 'node:child_process'

/** Options of node that name a program: the child would run the caller's again. */
const PROGRAM = /^(-e|-p|-pe|--eval|--print|--test|--watch)\b/

/** A child that says what it does by messages; its stdout is nobody's. @param stderr is read, or goes where the parent's goes. */
export const forkOptions = (env: NodeJS.ProcessEnv, stderr: 'pipe' | 'inherit' = 'pipe'): ForkOptions => ({
  env,
  execArgv: process.execArgv.some(argument => PROGRAM.test(argument)) ? [] : process.execArgv,
  serialization: 'advanced',
  stdio: ['ignore', 'ignore', stderr, 'ipc'],
})
