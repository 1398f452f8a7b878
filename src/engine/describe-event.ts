/** @file Progress in words, for the status line and for errors about a process that ended. */

import type { QuantizeEvent } from '../quant/terms/report.ts'
import type { ProgressEvent } from './messages.ts'

type Phase = (QuantizeEvent & { type: 'block' })['phase']

const PHASES: Readonly<Record<Phase, string>> = {
  targets: 'running the float block',
  learning: 'learning',
  rounding: 'rounding',
  outputs: 'running the quantized block',
}

const OUTER_PHASES: Readonly<Record<(QuantizeEvent & { type: 'outer' })['phase'], string>> = {
  inputs: 'running the last norm',
  clipping: 'learning its clipping',
}

/** "block 1/12  learning 3/512"; undefined for events that are no work of some length. */
export function describeEvent(event: ProgressEvent): string | undefined {
  switch (event.type) {
    case 'analyzed':
      return `${event.linears} linears in ${event.blocks} blocks`
    case 'calibrating':
      return `the model writes its calibration text  ${event.done}/${event.total} tokens`
    case 'block':
      return `block ${event.index + 1}/${event.blocks}  ${PHASES[event.phase]} ${event.done}/${event.total}`
    case 'outer':
      return `${event.name}  ${OUTER_PHASES[event.phase]} ${Math.round((100 * event.done) / event.total)} %`
    case 'saving':
      return 'saving'
    case 'evaluating':
      return `evaluating ${event.model}  ${event.done}/${event.total} windows`
    case 'timing':
      return `measuring speed and memory of ${event.model}`
    case 'loading':
      return `loading ${event.model}`
    case 'text':
    case 'device':
    case 'working':
    case 'blockDone':
      return undefined
  }
}
