/** @file A process that quantizes on request, again and again, with faults. Runs the built files, as users do. */

import process from 'node:process'
import { QuantError } from '../../dist/index.js'
import { quantizeModel } from '../../dist/quant/quantize-model.js'

const faults = globalThis[Symbol.for('omniquant.faults')]

/** Messages of the causes of an error, outermost first. */
function causesOf(error) {
  const causes = []
  for (let cause = error?.cause; cause !== undefined && causes.length < 8; cause = cause.cause)
    causes.push(String(cause.message ?? cause))
  return causes
}

/** Events that come before a run holds its output. */
const BEFORE = new Set(['analyzed', 'working'])

/** @param at event -> "stop" or "die"; "began" is the first event of a run that holds its output. */
async function quantize({ options, plan, at }) {
  const events = { ...at }
  let traces
  let began
  const onEvent = event => {
    if (event.type === 'working') traces = event.traces
    const names = [event.type]
    if (began === undefined && !BEFORE.has(event.type)) {
      began = faults.count()
      names.push('began')
    }
    for (const name of names) {
      const action = events[name]
      delete events[name]
      if (action === 'die') faults.die()
      if (action === 'stop') faults.pause(name)
    }
  }
  faults.arm(plan)
  try {
    await quantizeModel(options, { onEvent, ...(options.saveParams && { checkpointMs: 0 }) })
    return { type: 'done', calls: faults.disarm(), traces, began }
  } catch (error) {
    const calls = faults.disarm()
    const known = error instanceof QuantError
    const { code, message, hint, stack } = error
    return {
      type: 'error',
      calls,
      traces,
      error: { known, code, message: String(message), hint, stack, causes: causesOf(error) },
    }
  }
}

process.on('message', task => {
  void quantize(task).then(outcome => process.send(outcome))
})
process.on('disconnect', () => process.exit())
process.send({ type: 'ready' })
