/** @file What is going on, in one line on stderr: only where somebody watches. Knows no models; stdout is not its business. */

import ora from 'ora'
import { printableLine } from '../printable.ts'
import type { OnEvent, QuantizeEvent, Traces } from '../quant/terms/report.ts'
import { formatDuration, formatLoss } from './format.ts'

/** A line that is written over and over. */
export interface StatusLine {
  readonly say: (text: string) => void
  /** Something that stays to be read, above that line. */
  readonly line: (text: string) => void
  /** Told once: what is on the disk before there is a result. */
  readonly working: (traces: Traces) => void
  readonly stop: () => void
}

export const SILENCE: StatusLine = { say: () => {}, line: () => {}, working: () => {}, stop: () => {} }

/** A line on stderr; nothing at all when that is not a terminal that can show one. */
export function openStatusLine(): StatusLine {
  // A terminal of unknown width says 0 columns (containers do), and ora would clear lines without end.
  if (!process.stderr.isTTY || !process.stderr.columns || process.env['TERM'] === 'dumb') return SILENCE
  // discardStdin would put the terminal into raw mode, where Ctrl-C is no signal but a key nobody reads during a run.
  const spinner = ora({ stream: process.stderr, isEnabled: true, discardStdin: false })
  return {
    say: text => {
      // Drawn when the spinner's timer fires next: the event loop turns between two runs.
      spinner.text = printableLine(text)
      if (!spinner.isSpinning) spinner.start()
    },
    line: text => {
      spinner.clear()
      process.stderr.write(`${printableLine(text)}\n`)
    },
    working: () => {},
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

/** Part of all blocks from `first` on that is done. */
function fractionDone({ index, blocks, phase, done, total }: BlockEvent, first: number): number {
  const { from, to } = PHASES[phase]
  return (index - first + from + ((to - from) * done) / Math.max(1, total)) / (blocks - first)
}

const blockLine = ({ index, blocks, phase, done, total, loss }: BlockEvent, left: string | undefined): string =>
  [
    `block ${index + 1}/${blocks}`,
    `${PHASES[phase].what} ${done}/${total}`,
    ...(loss === undefined ? [] : [`loss ${formatLoss(loss)}`]),
    ...(left === undefined ? [] : [`${left} left`]),
  ].join('  ')

function finishedLine({ report, blocks }: Extract<QuantizeEvent, { type: 'blockDone' }>): string {
  const { index, roundedLoss, learnedLoss, kept, elapsedMs } = report
  const best = kept === 'learned' ? learnedLoss : roundedLoss
  return [
    `block ${index + 1}/${blocks}`,
    ...(roundedLoss === undefined || best === undefined
      ? []
      : [`loss ${formatLoss(roundedLoss)} -> ${formatLoss(best)}`]),
    formatDuration(elapsedMs),
  ].join('  ')
}

/**
 * Tells what happens: what is being done, with the time left once blocks are under way; how long it will take, as soon as that can be
 * told; every block that is finished. @param now milliseconds.
 */
export function quantizeProgress(
  { say, line }: Pick<StatusLine, 'say' | 'line'>,
  now: () => number = () => performance.now(),
): OnEvent {
  let begin: { readonly at: number; readonly block: number } | undefined
  let estimated = false
  let resumed = 0
  return event => {
    switch (event.type) {
      case 'analyzed':
        return say(`${event.linears} linears in ${event.blocks} blocks`)
      case 'working':
        return
      case 'calibrating':
        return say(`the model writes its calibration text  ${event.done}/${event.total} tokens`)
      case 'block': {
        if (!begin && resumed > 0) line(`${resumed} of ${event.blocks} blocks were finished by an earlier run`)
        begin ??= { at: now(), block: event.index }
        const fraction = fractionDone(event, begin.block)
        const leftMs = ((now() - begin.at) / fraction) * (1 - fraction)
        const left = fraction < MIN_FRACTION ? undefined : formatDuration(leftMs)
        if (left !== undefined && event.phase === 'learning' && !estimated) {
          line(`about ${left} to learn ${event.blocks - begin.block} blocks, ${event.total} steps each`)
          estimated = true
        }
        return say(blockLine(event, left))
      }
      case 'blockDone':
        if (event.resumed) resumed++
        else line(finishedLine(event))
        return
      case 'saving':
        return say('saving')
    }
  }
}
