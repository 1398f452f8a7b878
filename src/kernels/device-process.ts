/** @file The process of a further device: compiles and runs programs on request, until its parent has gone. */

import { decodeModel } from '../graph/onnx-file/decode.ts'
import { type DeviceAnswer, type DeviceRequest, sentError } from './device-messages.ts'
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

process.title = 'omniquant device'

// Ctrl-C reaches every process of the terminal; the parent decides about it.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})

process.on('disconnect', () => process.exit(1))

process.on('message', (request: DeviceRequest) => {
  const answer = (message: DeviceAnswer) => void process.send?.(message)
  perform(request).then(
    outputs => answer({ id: request.id, ...(outputs && { outputs }) }),
    (error: unknown) => answer({ id: request.id, error: sentError(error) }),
  )
})
