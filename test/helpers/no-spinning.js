/**
 * @file Import it before all else (`node --import`): threads of onnxruntime that have nothing to do sleep, and do not spin. The numbers
 * are the same. Tests compile thousands of programs that run for a millisecond, and spinning takes a third of their processor time.
 */

import { createRequire } from 'node:module'

const { InferenceSession } = createRequire(createRequire(import.meta.url).resolve('onnxruntime-node'))(
  'onnxruntime-common',
)
const create = InferenceSession.create.bind(InferenceSession)

InferenceSession.create = (model, options = {}) => {
  const session = { ...options.extra?.session, intra_op: { allow_spinning: '0' } }
  return create(model, { ...options, extra: { ...options.extra, session } })
}
