/**
 * @file The process that works. onnxruntime blocks it for as long as a program runs, and may take it down with it: so it draws nothing,
 * answers to no terminal, and can be killed at any moment.
 */

import { sentError } from '../process/sent-error.ts'
import { serveParent } from '../process/serve-parent.ts'
import type { EngineMessage, Task } from './messages.ts'

async function answer(task: Task): Promise<EngineMessage> {
  try {
    // Loaded only now, because there is a process to tell about what fails.
    const { perform } = await import('./tasks.ts')
    const onEvent = (event: (EngineMessage & { type: 'event' })['event']) =>
      void process.send?.({ type: 'event', event })
    return { type: 'report', report: await perform(task, { onEvent }) }
  } catch (error) {
    return { type: 'error', error: sentError(error) }
  }
}

serveParent('omniquant engine')

process.once('message', (task: Task) => {
  void answer(task).then(message => process.send?.(message, () => process.disconnect()))
})
