/** @file The process of a further device: compiles and runs programs on request, until its parent has gone. */

import { decodeModel } from '../graph/onnx-file/decode.ts'
import { sentError } from '../process/sent-error.ts'
import { serveParent } from '../process/serve-parent.ts'
import type { DeviceAnswer, DeviceRequest } from './device-messages.ts'
import { compile, type Session, type Tensors } from './session.ts'

const sessions = new Map<number, Session>()

async function perform(request: DeviceRequest): Promise<Tensors | undefined> {
  if (request.type === 'compile') {
    const { id, program, options, fixed } = request
    sessions.set(id, await compile(decodeModel(program).graph, options, fixed))
    return undefined
  }
  const session = sessions.get(request.session)!
  if (request.type === 'run') return session.run(request.feeds)
  sessions.delete(request.session)
  await session.release()
  return undefined
}

serveParent('omniquant device')

process.on('message', (request: DeviceRequest) => {
  const answer = (message: DeviceAnswer) => void process.send?.(message)
  perform(request).then(
    outputs => answer({ id: request.id, ...(outputs && { outputs }) }),
    (error: unknown) => answer({ id: request.id, error: sentError(error) }),
  )
})
