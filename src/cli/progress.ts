/** @file What is going on, in one line on stderr: only where somebody watches. Knows no models; stdout is not its business. */

import ora from 'ora'
import type { OnEvent, QuantizeEvent } from '../quant/report.ts'
import { formatDuration, formatLoss } from './format.ts'

/** A line that is written over and over. */
export interface StatusLine {
  readonly say: (text: string) => void
  readonly stop: () => void
}

const SILENCE: StatusLine = { say: () => {}, stop: () => {} }

/** A line on stderr; nothing at all when that is not a terminal that can show one. */
export function openStatusLine(): StatusLine {
  // A terminal of unknown width says 0 columns (containers do), and ora would clear lines without end.
  if (!process.stderr.isTTY || !process.stderr.columns || process.env['TERM'] === 'dumb') return SILENCE
  // discardStdin would put the terminal into raw mode, where Ctrl-C is no signal but a key nobody reads during a run.
  const spinner = ora({ stream: process.stderr, isEnabled: true, discardStdin: false })
  return {
    say: text => {
      // Drawn when the spinner's timer fires next: the event loop turns between two runs.
      spinner.text = text
      if (!spinner.isSpinning) spinner.start()
    },
    stop: () => spinner.stop(),
  }
}

type BlockEvent = Extract<QuantizeEvent, { type: 'block' }>

// What each phase does, and the parts of a block's time that are gone when it begins and ends (learning takes most).
const PHASES: Readonly<
  Record<BlockEvent['phase'], { readonly what: string; readonly from: number; readonly to: number }>
> = {
  targets: { what: 'running the float block', from: 0, to: 0.04 },
  learning: { what: 'learning', from: 0.04, to: 0.94 },
  rounding: { what: 'rounding', from: 0.94, to: 0.96 },
  outputs: { what: 'running the quantized block', from: 0.96, to: 1 },
}

/** Time left is not guessed before this much of the whole is done. */
const MIN_FRACTION = 0.005

function blockLine(event: BlockEvent, elapsedMs: number): string {
  const { what, from, to } = PHASES[event.phase]
  const fraction = (event.index + from + ((to - from) * event.done) / Math.max(1, event.total)) / event.blocks
  return [
    `block ${event.index + 1}/${event.blocks}`,
    `${what} ${event.done}/${event.total}`,
    ...(event.loss === undefined ? [] : [`loss ${formatLoss(event.loss)}`]),
    ...(fraction < MIN_FRACTION ? [] : [`${formatDuration((elapsedMs / fraction) * (1 - fraction))} left`]),
  ].join('  ')
}

/** Tells `say` what happens, with the time left once blocks are under way. @param now milliseconds. */
export function quantizeProgress(say: (text: string) => void, now: () => number = () => performance.now()): OnEvent {
  let blocksSince: number | undefined
  return event => {
    switch (event.type) {
      case 'analyzed':
        return say(`${event.linears} linears in ${event.blocks} blocks`)
      case 'calibrating':
        return say(`the model writes its calibration text  ${event.done}/${event.total} tokens`)
      case 'block':
        blocksSince ??= now()
        return say(blockLine(event, now() - blocksSince))
      case 'blockDone':
        return
      case 'saving':
        return say('saving')
    }
  }
}
