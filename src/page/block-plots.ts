/** @file Plots with a place for each block: errors, losses, time, memory. */

import type { BlockReport } from '../quant/terms/report.ts'
import { type Html, markup } from './html.ts'
import { bytes, duration, figure as number, percent, NONE } from './numbers.ts'
import { type Column, type Figure, key, type Section, figure, table } from './parts.ts'
import { draw, FULL_WIDTH, Plot } from './plot.ts'

/** Most numbers of blocks that stand side by side on an axis. */
const MOST_TICKS = 24

/** Numbers of blocks for an axis. */
export function blockTicks(blocks: readonly { readonly index: number }[]): number[] {
  const every = Math.ceil(blocks.length / MOST_TICKS)
  return blocks.map(({ index }) => index).filter((_, i) => i % every === 0)
}

/** The axis of blocks. */
export const blockAxis = (
  blocks: readonly { readonly index: number }[],
  label: string | null = 'Block',
): Plot.ScaleOptions => ({
  domain: blocks.map(({ index }) => index),
  ticks: blockTicks(blocks),
  tickSize: 0,
  label,
  labelArrow: 'none',
  labelAnchor: 'center',
})

/** Ratio of the ends of a logarithmic axis from which on only powers of ten are marked. */
const DECADES = 40

/** A logarithmic axis for the numbers that have a place on it. */
export function logAxis(label: string, all: readonly number[]): Plot.ScaleOptions {
  const numbers = all.filter(number => number > 0 && Number.isFinite(number))
  if (numbers.length === 0) return { grid: true, ticks: 5, tickSize: 0, label, labelArrow: 'none' }
  const [least, greatest] = [Math.min(...numbers), Math.max(...numbers)]
  const first = Math.floor(Math.log10(least))
  const count = Math.ceil(Math.log10(greatest)) - first + 1
  const powers = Array.from({ length: count }, (_, i) => Number(`1e${first + i}`))
  return {
    type: 'log',
    grid: true,
    ticks: greatest / least < DECADES ? 5 : powers.filter(power => power >= least && power <= greatest),
    tickFormat: '~g',
    tickSize: 0,
    label,
    labelArrow: 'none',
    insetTop: 8,
    insetBottom: 8,
  }
}

const BLOCK: Column<BlockReport> = { name: 'Block', of: ({ index }) => index }

/** Part of the error of rounding that the block has. */
const leftOf = ({ roundedLoss, learnedLoss, kept }: BlockReport): number | undefined =>
  kept === 'learned' && roundedLoss && learnedLoss !== undefined ? learnedLoss / roundedLoss : undefined

/** Mean part of the error of rounding that is left, over the learned blocks. */
export function meanLeft(blocks: readonly BlockReport[]): number | undefined {
  const parts = blocks.flatMap(block => (block.kept === undefined ? [] : [leftOf(block) ?? 1]))
  return parts.length === 0 ? undefined : parts.reduce((sum, part) => sum + part, 0) / parts.length
}

const ERROR_COLUMNS: readonly Column<BlockReport>[] = [
  BLOCK,
  { name: 'Rounded to nearest', of: ({ roundedLoss }) => number(roundedLoss) },
  { name: 'Learned', of: ({ learnedLoss }) => number(learnedLoss) },
  { name: 'Left', of: block => percent(leftOf(block)) },
  { name: 'In the file', of: ({ kept }) => kept ?? 'rounded', text: true },
  { name: 'Rollbacks', of: ({ rollbacks }) => rollbacks?.length ?? 0 },
]

/** Errors of the blocks before and after learning; undefined where no block was run. */
export function blockErrors(blocks: readonly BlockReport[]): Section | undefined {
  const run = blocks.filter(({ roundedLoss }) => Number.isFinite(roundedLoss))
  if (run.length === 0) return undefined
  const learned = run.filter(({ learnedLoss }) => Number.isFinite(learnedLoss))
  const name = 'Mean squared error of each block’s output, rounded to nearest and learned'
  const shown = run.flatMap(({ roundedLoss, learnedLoss }) => [roundedLoss, learnedLoss ?? roundedLoss] as number[])
  const plot = draw(name, {
    height: 300,
    marginLeft: 64,
    marginBottom: 40,
    x: { ...blockAxis(run), type: 'point', padding: 0.5 },
    y: logAxis('Mean squared error', shown),
    marks: [
      Plot.link(learned, {
        ...{ x: 'index', y1: 'roundedLoss', y2: 'learnedLoss', stroke: 'var(--before)', strokeWidth: 1.5 },
      }),
      Plot.dot(run, {
        x: 'index',
        y: 'roundedLoss',
        r: 5,
        stroke: 'var(--before)',
        strokeWidth: 2,
        fill: 'var(--card)',
      }),
      Plot.dot(learned, { x: 'index', y: 'learnedLoss', r: 5.5, fill: 'var(--accent)' }),
    ],
  })
  const legend = markup`${key('before', 'rounded to nearest')}${learned.length > 0 && key('after', 'learned')}`
  return {
    id: 'errors',
    title: learned.length > 0 ? 'Error of each block, before and after learning' : 'Error of each block',
    says: 'How far the output of each quantized block is from that of the float block, on the calibration samples. The inputs come from the quantized blocks before it, so errors add up with depth. Lower is better; the scale is logarithmic.',
    content: figure({ name, plot, legend, table: table(name, run, ERROR_COLUMNS) }),
  }
}

interface Point {
  readonly index: number
  readonly step: number
  readonly loss: number
}

/** The curve of a block, as parts of its first loss, each in the middle of its window. */
function pointsOf({ index, losses }: BlockReport): Point[] {
  const first = losses?.means.find(mean => mean > 0)
  if (!losses || !first) return []
  const { steps, window, means } = losses
  const apart = (steps - window) / Math.max(1, means.length - 1)
  return means.flatMap((mean, i) =>
    mean > 0 ? [{ index, step: Math.round(window / 2 + i * apart), loss: mean / first }] : [],
  )
}

/** Colours from the first to the last block. */
const depthColors = (count: number): string[] =>
  Array.from(
    { length: count },
    (_, i) => `color-mix(in oklab, var(--late) ${Math.round((100 * i) / Math.max(1, count - 1))}%, var(--early))`,
  )

/** Losses of training of all blocks; undefined where nothing was trained. */
export function lossCurves(blocks: readonly BlockReport[]): Section | undefined {
  const trained = blocks.filter(block => pointsOf(block).length > 1)
  if (trained.length === 0) return undefined
  const name = 'Loss of training of each block, as a part of its first loss'
  const points = trained.flatMap(pointsOf)
  const plot = draw(name, {
    height: 320,
    marginLeft: 64,
    marginBottom: 40,
    x: {
      ...{ domain: [0, Math.max(...trained.map(({ losses }) => losses!.steps))] },
      label: 'Step (one calibration sample each)',
      labelArrow: 'none',
      labelAnchor: 'center',
      ticks: 8,
    },
    y: logAxis(
      'Loss / first loss',
      points.map(({ loss }) => loss),
    ),
    color: { type: 'ordinal', domain: trained.map(({ index }) => index), range: depthColors(trained.length) },
    marks: [
      Plot.ruleY([1], { stroke: 'var(--before)', strokeDasharray: '3 4' }),
      Plot.line(points, { x: 'step', y: 'loss', z: 'index', stroke: 'index', strokeWidth: 1.75 }),
    ],
  })
  const [first, last] = [trained[0]!.index, trained.at(-1)!.index]
  const at = (share: number) => (block: BlockReport) => {
    const means = block.losses!.means
    return number(means[Math.min(means.length - 1, Math.floor(share * means.length))])
  }
  const columns: readonly Column<BlockReport>[] = [
    BLOCK,
    { name: 'Steps', of: ({ losses }) => losses!.steps },
    { name: 'At the start', of: at(0) },
    ...[0.25, 0.5, 0.75].map(share => ({ name: percent(share), of: at(share) })),
    { name: 'At the end', of: at(1) },
  ]
  const legend = trained.length > 1 && markup`<span class="key">block ${first}<i class="ramp"></i>block ${last}</span>`
  return {
    id: 'learning',
    title: 'Course of learning',
    says: 'The loss that training works on, block by block, as a part of its first value. Each point is the mean over an epoch around it, so that it has every sample in it. A curve that has become flat would gain little from more epochs; one that rises asks for a lower learning rate.',
    content: figure({ name, plot, legend, table: table(name, trained, columns) }),
  }
}

/** Width of one of two plots side by side. */
const HALF_WIDTH = FULL_WIDTH / 2 - 20

/** Time and memory of each block. */
export function timeAndMemory(blocks: readonly BlockReport[]): Section {
  const MS = 1000
  const longest = Math.max(...blocks.map(({ elapsedMs }) => elapsedMs))
  const inMinutes = longest > 10 * 60 * MS
  const unit = inMinutes ? 60 * MS : MS
  const known = blocks.filter(({ peakMemoryBytes }) => peakMemoryBytes !== undefined)
  const bar = (title: string, rows: readonly BlockReport[], of: (block: BlockReport) => number, label: string): Html =>
    draw(title, {
      width: HALF_WIDTH,
      height: 220,
      marginLeft: 56,
      marginBottom: 40,
      x: { ...blockAxis(rows), type: 'band', padding: 0.35 },
      y: { grid: true, ticks: 4, tickSize: 0, label, labelArrow: 'none', zero: true },
      marks: [
        Plot.barY(rows, { x: 'index', y: of, fill: 'var(--accent)', rx: 1.5 }),
        Plot.ruleY([0], { stroke: 'var(--line)' }),
      ],
    })
  const name = 'Time and memory of each block'
  const time = bar('Time of each block', blocks, ({ elapsedMs }) => elapsedMs / unit, inMinutes ? 'Minutes' : 'Seconds')
  const memory =
    known.length > 0 &&
    bar('Peak memory until the end of each block', known, ({ peakMemoryBytes }) => peakMemoryBytes! / 1e9, 'GB')
  return {
    id: 'time',
    title: 'Time and memory',
    says: 'Left: the time that each block took. Right: the most memory that the process had taken by the end of the block.',
    content: figure({
      name,
      plot: markup`<div class="pair">${time}${memory}</div>`,
      table: table(name, blocks, [
        BLOCK,
        { name: 'Time', of: ({ elapsedMs }) => duration(elapsedMs) },
        { name: 'Peak memory', of: ({ peakMemoryBytes }) => bytes(peakMemoryBytes) },
        { name: 'Device', of: ({ device }) => device ?? NONE, text: true },
      ]),
    } satisfies Figure),
  }
}
