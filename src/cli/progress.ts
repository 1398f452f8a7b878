/** @file Progress in one line on stderr, only where somebody watches. Knows no models; stdout is not its business. */

import ora from 'ora'
import { deviceLine } from '../engine/choose-device.ts'
import { describeEvent } from '../engine/describe-event.ts'
import type { ProgressEvent } from '../engine/messages.ts'
import { printableLine } from '../printable.ts'
import type { QuantizeEvent } from '../quant/terms/report.ts'
import { formatChange, formatDuration, formatLoss } from './format-numbers.ts'
import { planLines } from './plan-lines.ts'

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

const BAR_CELLS = 16

/** "[######----------]" */
export function progressBar(fraction: number): string {
  const full = Math.round(BAR_CELLS * Math.min(1, Math.max(0, fraction)))
  return `[${'#'.repeat(full)}${'-'.repeat(BAR_CELLS - full)}]`
}

/** Work of which a part is done. */
interface Work {
  /** Work that goes on has the same name. */
  readonly name: string
  readonly fraction: number
}

/** The work that an event is of; undefined where its length is not known. Blocks are one work, from the first that is not finished on. */
function workOf(event: ProgressEvent, firstBlock: number): Work | undefined {
  if (event.type === 'block') return { name: 'blocks', fraction: fractionDone(event, firstBlock) }
  if (!('done' in event) || !('total' in event)) return undefined
  const { type, done, total } = event
  const of = 'model' in event ? event.model : 'name' in event ? `${event.name} ${event.phase}` : ''
  return { name: `${type} ${of}`, fraction: done / Math.max(1, total) }
}

function finishedLine({ report, blocks }: Extract<QuantizeEvent, { type: 'blockDone' }>, left: string): string {
  const { index, roundedLoss, learnedLoss, kept, elapsedMs } = report
  const best = kept === 'learned' ? learnedLoss : roundedLoss
  return [
    `block ${index + 1}/${blocks}`,
    ...(roundedLoss === undefined || best === undefined
      ? []
      : [`loss ${formatLoss(roundedLoss)} -> ${formatLoss(best)} (${formatChange(best, roundedLoss)})`]),
    formatDuration(elapsedMs),
    ...(left === '' ? [] : [left]),
  ].join('  ')
}

export interface ProgressOptions {
  /** Also a line for every phase. */
  readonly verbose?: boolean
  /** Clock in milliseconds. */
  readonly now?: () => number
}

/** Clock of the work that is under way: the time that is left of it. */
class Clock {
  private work: { readonly name: string; readonly at: number; readonly fraction: number } | undefined
  private readonly now: () => number

  constructor(now: () => number) {
    this.now = now
  }

  /** "1 min 24 s left"; empty before enough of it is done. */
  left({ name, fraction }: Work): string {
    const now = this.now()
    // From the first event of blocks on, and from what is done by the first one of other work, which comes after a part of it.
    if (this.work?.name !== name) this.work = { name, at: now, fraction: name === 'blocks' ? 0 : fraction }
    const done = fraction - this.work.fraction
    if (done < MIN_FRACTION) return ''
    return `${formatDuration(((now - this.work.at) / done) * (1 - fraction))} left`
  }
}

/**
 * Shows events: the plan of a run; the work under way, with a bar and the time left; every finished block, and after the first one an
 * estimate.
 */
export function showProgress(
  { say, note }: Pick<StatusLine, 'say' | 'note'>,
  { verbose = false, now = () => performance.now() }: ProgressOptions = {},
): (event: ProgressEvent) => void {
  const clock = new Clock(now)
  const began = now()
  let firstBlock: number | undefined
  let blocksBegan = 0
  let resumed = 0
  let phase = ''

  const tellPhase = (text: string, name: string): void => {
    if (name === phase) return
    phase = name
    note(`at ${formatDuration(now() - began)}  ${text}`)
  }
  /** Remark on the time of the blocks that follow. */
  const followUp = ({ report: { index }, blocks }: Extract<QuantizeEvent, { type: 'blockDone' }>): string => {
    const done = index + 1 - (firstBlock ?? index)
    const more = blocks - index - 1
    if (done === 0 || more === 0 || firstBlock === undefined) return ''
    return `about ${formatDuration(((now() - blocksBegan) / done) * more)} for the ${more === 1 ? 'last block' : `${more} blocks that follow`}`
  }
  const tellBlock = (event: Extract<QuantizeEvent, { type: 'blockDone' }>): void => {
    if (event.resumed) resumed++
    else note(finishedLine(event, followUp(event)))
  }
  const tellWork = (event: ProgressEvent): void => {
    const text = describeEvent(event)
    if (text === undefined) return
    if (event.type === 'block' && firstBlock === undefined) {
      if (resumed > 0) note(`resumed: ${resumed} of ${event.blocks} blocks were finished by an earlier run`)
      firstBlock = event.index
      blocksBegan = now()
    }
    const work = workOf(event, firstBlock ?? 0)
    if (verbose) tellPhase(text, event.type === 'block' ? `${event.index} ${event.phase}` : (work?.name ?? text))
    if (!work) return say(text)
    const loss = event.type === 'block' && event.loss !== undefined ? `loss ${formatLoss(event.loss)}` : ''
    say([progressBar(work.fraction), text, loss, clock.left(work)].filter(part => part !== '').join('  '))
  }
  return event => {
    switch (event.type) {
      case 'device':
        return note(deviceLine(event.device))
      case 'planned':
        return planLines(event.plan).forEach(line => note(line))
      case 'working':
        return verbose ? note(`work: ${event.traces.work.path}`) : undefined
      case 'blockDone':
        return tellBlock(event)
      default:
        return tellWork(event)
    }
  }
}
