/**
 * @file The process that works. onnxruntime blocks it for as long as a program runs, and may take it down with it: so it draws
 * nothing, answers to no terminal, and can be killed at any moment.
 */

import { type EngineMessage, sentError } from './engine-messages.ts'
import type { Invocation } from './options.ts'
import type { Outcome } from './outcome.ts'
import type { StatusLine } from './progress.ts'

const send = (message: EngineMessage): void => void process.send?.(message)

const status: StatusLine = {
  say: text => send({ type: 'say', text }),
  line: text => send({ type: 'line', text }),
  working: traces => send({ type: 'working', traces }),
  stop: () => {},
}

async function execute(invocation: Invocation): Promise<Outcome> {
  switch (invocation.command) {
    case 'quantize':
      return (await import('./commands/quantize.ts')).run(invocation, status)
    case 'inspect':
      return (await import('./commands/inspect.ts')).run(invocation, status)
    case 'evaluate':
      return (await import('./commands/evaluate.ts')).run(invocation, status)
  }
}

async function answer(invocation: Invocation): Promise<EngineMessage> {
  try {
    const { failure, ...outcome } = await execute(invocation)
    return { type: 'outcome', outcome: { ...outcome, failure: failure && sentError(failure) } }
  } catch (error) {
    return { type: 'error', error: sentError(error) }
  }
}

process.title = 'omniquant engine'

// Ctrl-C reaches every process of the terminal: what happens then is decided by the one that is talked to.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})

// Without anybody to tell there is nothing to do.
process.on('disconnect', () => process.exit(1))

process.once('message', (invocation: Invocation) => {
  void answer(invocation).then(message => process.send?.(message, () => process.disconnect()))
})
