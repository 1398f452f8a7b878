/** @file Progress in one line on stderr, only where somebody watches. Knows no models; stdout is not its business. */

import ora from 'ora'
import { deviceLine } from '../engine/choose-device.ts'
import { describeEvent } from '../engine/describe-event.ts'
import type { ProgressEvent } from '../engine/messages.ts'
import { printableLine } from '../printable.ts'
import type { QuantizeEvent } from '../quant/terms/report.ts'
import { formatDuration, formatLoss } from './format-numbers.ts'

/** A line that is written over and over. */
export interface StatusLine {
  readonly say: (text: string) => void
  /** Writes a line that stays, above the status line. */
  readonly line: (text: string) => void
  /** Writes a line that stays, also where nobody watches: into a log. */
  readonly note: (text: string) => void
  readonly stop: () => void
}

export const SILENCE: StatusLine = { say: () => {}, line: () => {}, note: () => {}, stop: () => {} }

const writeLine = (text: string): void => void process.stderr.write(`${printableLine(text)}\n`)

/** A line on stderr; only its notes when that is not a terminal that can show one. */
export function openStatusLine(): StatusLine {
  // A terminal of unknown width says 0 columns (containers do), and ora would clear lines without end.
  if (!process.stderr.isTTY || !process.stderr.columns || process.env['TERM'] === 'dumb')
    return { ...SILENCE, note: writeLine }
  // discardStdin would put the terminal into raw mode, where Ctrl-C is no signal but a key nobody reads during a run.
  const spinner = ora({ stream: process.stderr, isEnabled: true, discardStdin: false })
  const line = (text: string): void => {
    spinner.clear()
    writeLine(text)
  }
  return {
    say: text => {
      // Drawn when the spinner's timer fires next: the event loop turns between two runs.
      spinner.text = printableLine(text)
      if (!spinner.isSpinning) spinner.start()
    },
    line,
    note: line,
    stop: () => spinner.stop(),
  }
}

type BlockEvent = Extract<QuantizeEvent, { type: 'block' }>

/** Parts of a block's time that are gone when each phase begins and ends; learning takes most. */
const PHASES: Readonly<Record<BlockEvent['phase'], { readonly from: number; readonly to: number }>> = {
  targets: { from: 0, to: 0.04 },
  learning: { from: 0.04, to: 0.94 },
  rounding: { from: 0.94, to: 0.96 },
  outputs: { from: 0.96, to: 1 },
}

/** Time left is not guessed before this much of the whole is done. */
const MIN_FRACTION = 0.005

/** Part of all blocks from `first` on that is done. */
function fractionDone({ index, blocks, phase, done, total }: BlockEvent, first: number): number {
  const { from, to } = PHASES[phase]
  return (index - first + from + ((to - from) * done) / Math.max(1, total)) / (blocks - first)
}

/** The time left after `elapsedMs` for a part of the work; undefined when that is too little to tell. */
const timeLeft = (elapsedMs: number, fraction: number): string | undefined =>
  fraction < MIN_FRACTION ? undefined : formatDuration((elapsedMs / fraction) * (1 - fraction))

const eventLine = (event: ProgressEvent, loss: number | undefined, left: string | undefined): string =>
  [
    describeEvent(event),
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
 * Shows events: the work under way, with the time left of the calibration text or of all blocks; an estimate of the whole time, once
 * there is one; every finished block.
 * @param now clock in milliseconds.
 */
export function showProgress(
  { say, line, note }: Pick<StatusLine, 'say' | 'line' | 'note'>,
  now: () => number = () => performance.now(),
): (event: ProgressEvent) => void {
  let writing: { readonly at: number; readonly done: number } | undefined
  let begin: { readonly at: number; readonly block: number } | undefined
  let estimated = false
  let resumed = 0
  return event => {
    switch (event.type) {
      case 'device':
        return note(deviceLine(event.device))
      case 'calibrating': {
        writing ??= { at: now(), done: event.done }
        const fraction = (event.done - writing.done) / Math.max(1, event.total - writing.done)
        return say(eventLine(event, undefined, timeLeft(now() - writing.at, fraction)))
      }
      case 'block': {
        if (!begin && resumed > 0) line(`${resumed} of ${event.blocks} blocks were finished by an earlier run`)
        begin ??= { at: now(), block: event.index }
        const fraction = fractionDone(event, begin.block)
        const left = timeLeft(now() - begin.at, fraction)
        if (left !== undefined && event.phase === 'learning' && !estimated) {
          line(`about ${left} to learn ${event.blocks - begin.block} blocks, ${event.total} steps each`)
          estimated = true
        }
        return say(eventLine(event, event.loss, left))
      }
      case 'blockDone':
        if (event.resumed) resumed++
        else line(finishedLine(event))
        return
      default: {
        const text = describeEvent(event)
        return text === undefined ? undefined : say(text)
      }
    }
  }
}
