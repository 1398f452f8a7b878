/**
 * @file A CUDA device that is the CPU, until it fails: `node --import ./test/helpers/pretend-cuda.js`. Programs for CUDA run on the CPU
 * while the file PRETEND_FAILS_AFTER is not there; from then on each run fails, or the process crashes (PRETEND_FAILURE=crash).
 */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import process from 'node:process'

const { PRETEND_FAILS_AFTER: file, PRETEND_FAILURE: failure } = process.env

function fail() {
  if (failure === 'crash') process.abort()
  throw new Error(
    "Non-zero status code returned while running MatMul node. Name:'m' Status Message: CUDA failure 719: unspecified launch failure ; GPU=0",
  )
}

// The command line itself runs nothing.
if (process.argv[1]?.endsWith('process.js')) {
  const { InferenceSession } = createRequire(process.argv[1])('onnxruntime-node')
  const create = InferenceSession.create.bind(InferenceSession)
  InferenceSession.create = async (source, options) => {
    if (options.executionProviders[0]?.name !== 'cuda') return create(source, options)
    const session = await create(source, { ...options, executionProviders: ['cpu'] })
    const run = session.run.bind(session)
    session.run = async (...args) => (file !== undefined && existsSync(file) ? fail() : run(...args))
    return session
  }
}
