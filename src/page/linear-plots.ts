/** @file Plots with a place for each linear of each block: errors as a heat map, spreads of clip ratios and of scales. */

import type { LinearReport, Spread } from '../quant/terms/learning-report.ts'
import type { BlockReport } from '../quant/terms/report.ts'
import { blockAxis, blockTicks, logAxis } from './block-plots.ts'
import { type Html, markup } from './html.ts'
import { kindsOf } from './names.ts'
import { figure as number, percent } from './numbers.ts'
import { type Column, figure, key, type Section, table } from './parts.ts'
import { draw, FULL_WIDTH, Plot } from './plot.ts'
import { HEATS } from './style.ts'

/** Number of a kind of linears in a block: the mean over linears of one kind, such as experts. */
interface Cell {
  readonly index: number
  readonly kind: string
  readonly value: number
}

/** Linears of a block, by the part of their names that blocks have in common. */
interface Kind {
  readonly index: number
  readonly kind: string
  readonly linears: readonly LinearReport[]
}

function kindsIn(blocks: readonly BlockReport[]): Kind[] {
  const kinds = kindsOf(blocks.map(({ figures = [] }) => figures.map(({ name }) => name)))
  return blocks.flatMap(({ index, figures = [] }, b) => {
    const byKind = new Map<string, LinearReport[]>()
    figures.forEach((linear, i) => byKind.set(kinds[b]![i]!, [...(byKind.get(kinds[b]![i]!) ?? []), linear]))
    return [...byKind].map(([kind, linears]) => ({ index, kind, linears }))
  })
}

const mean = (numbers: readonly number[]): number => numbers.reduce((sum, value) => sum + value, 0) / numbers.length

/** Cells of the kinds for which all linears have the number. */
const cellsOf = (kinds: readonly Kind[], of: (linear: LinearReport) => number | undefined): Cell[] =>
  kinds.flatMap(({ index, kind, linears }) => {
    const values = linears.map(of).filter(value => value !== undefined)
    return values.length === 0 ? [] : [{ index, kind, value: mean(values) }]
  })

/** Bounds of classes, from the least number to the greatest, in equal ratios; none for equal numbers. */
function boundsOf(values: readonly number[]): number[] {
  const positive = values.filter(value => value > 0)
  const [least, greatest] = [Math.min(...positive), Math.max(...positive)]
  if (least === greatest) return []
  return Array.from({ length: HEATS - 1 }, (_, i) => least * (greatest / least) ** ((i + 1) / HEATS))
}

const classOf = (value: number, bounds: readonly number[]): number => bounds.filter(bound => value > bound).length

/** Room for the name of a kind, in pixels. */
const marginFor = (kinds: readonly string[]): number => 24 + 6.6 * Math.max(...kinds.map(kind => kind.length))

/** Least width of a cell that has its number in it. */
const TEXT_WIDTH = 46

/** Width of a cell where there is room. */
const CELL_WIDTH = 76

function heatMap(name: string, cells: readonly Cell[], blocks: readonly BlockReport[]): { plot: Html; legend: Html } {
  const kinds = [...new Set(cells.map(({ kind }) => kind))]
  const bounds = boundsOf(cells.map(({ value }) => value))
  const marginLeft = marginFor(kinds)
  const width = Math.min(FULL_WIDTH, Math.round(marginLeft + 20 + CELL_WIDTH * blocks.length))
  const isWide = (width - marginLeft) / blocks.length >= TEXT_WIDTH
  const place = { x: 'index', y: 'kind' } as const
  const plot = draw(name, {
    width,
    height: 60 + 30 * kinds.length,
    marginLeft,
    marginTop: 8,
    marginBottom: 40,
    x: { ...blockAxis(blocks), type: 'band', padding: 0.04 },
    y: { domain: kinds, type: 'band', padding: 0.06, label: null, tickSize: 0 },
    marks: [
      Plot.cell(cells, { ...place, fill: ({ value }: Cell) => `var(--heat${classOf(value, bounds)})`, rx: 2 }),
      isWide
        ? Plot.text(cells, {
            ...place,
            text: ({ value }: Cell) => percent(value),
            fill: ({ value }: Cell) => `var(--ink${classOf(value, bounds)})`,
          })
        : undefined,
    ],
    color: { type: 'identity' },
  })
  const edges = [Math.min(...cells.map(({ value }) => value)), ...bounds, Math.max(...cells.map(({ value }) => value))]
  const shown = (edge: number) => String(Number((100 * edge).toPrecision(2)))
  const legend = markup`${bounds.length > 0 && edges.slice(1).map((edge, i) => key(`heat${i}`, `${shown(edges[i]!)}–${shown(edge)} %`))}`
  return { plot, legend }
}

/** Rows of kinds, columns of blocks. */
const cellTable = (name: string, cells: readonly Cell[], blocks: readonly BlockReport[]): Html => {
  const kinds = [...new Set(cells.map(({ kind }) => kind))]
  const at = (kind: string, index: number) => cells.find(cell => cell.kind === kind && cell.index === index)?.value
  const columns: Column<string>[] = [
    { name: 'Linear', of: kind => kind, text: true },
    ...blocks.map(({ index }) => ({ name: `Block ${index}`, of: (kind: string) => percent(at(kind, index)) })),
  ]
  return table(name, kinds, columns)
}

/** Error of the output with the weight that the file has. */
const errorOf =
  ({ kept }: BlockReport) =>
  ({ error }: LinearReport): number | undefined =>
    kept === 'learned' ? error?.learned : error?.rounded

/** Errors of all linears, and what learning left of them; undefined where no block was run. */
export function linearErrors(blocks: readonly BlockReport[]): Section | undefined {
  const kinds = kindsIn(blocks)
  const blockOf = new Map(blocks.map(block => [block.index, block]))
  const cells = kinds.flatMap(kind => cellsOf([kind], errorOf(blockOf.get(kind.index)!)))
  const positive = cells.filter(({ value }) => value > 0)
  if (positive.length === 0) return undefined
  const left = cellsOf(kinds, ({ error }) =>
    error?.rounded && error.learned !== undefined ? error.learned / error.rounded : undefined,
  ).filter(({ value }) => value > 0)
  const map = (title: string, name: string, shown: readonly Cell[]) =>
    markup`<div><h3>${title}</h3>${figure({ name, ...heatMap(name, shown, blocks), table: cellTable(name, shown, blocks) })}</div>`
  return {
    id: 'linears',
    title: 'Error of each linear',
    says: 'The squared error of a linear’s output that its quantized weight causes, as a part of the output’s own square, on a few calibration tokens. Linears that stand out are candidates for more bits (--override). Learning lowers the error of the whole block; it may raise that of a single linear which others make up for.',
    content: markup`<div class="twin">${[
      map('Error in the file', 'Relative squared error of the output of each linear', positive),
      left.length > 0 &&
        map(
          'Part left of the error of rounding to nearest',
          'Error of each linear as a part of its error rounded to nearest',
          left,
        ),
    ]}</div>`,
  }
}

/** A spread with its place. */
interface Box extends Spread {
  readonly index: number
  readonly kind: string
}

const SPREAD_COLUMNS: readonly Column<Box>[] = [
  { name: 'Block', of: ({ index }) => index },
  { name: 'Of', of: ({ kind }) => kind, text: true },
  { name: 'Least', of: ({ least }) => number(least) },
  { name: 'A quarter below', of: ({ lower }) => number(lower) },
  { name: 'Median', of: ({ median }) => number(median) },
  { name: 'A quarter above', of: ({ upper }) => number(upper) },
  { name: 'Greatest', of: ({ greatest }) => number(greatest) },
]

/** Least width of the place of a block. */
const PLACE_WIDTH = 5

/** Boxes of all blocks, kind beside kind. */
function boxes(name: string, all: readonly Box[], blocks: readonly BlockReport[], y: Plot.ScaleOptions): Html {
  const kinds = [...new Set(all.map(({ kind }) => kind))]
  const width = Math.max(FULL_WIDTH, 60 + kinds.length * (12 + PLACE_WIDTH * blocks.length))
  const isDense = blocks.length > 12
  const ticks = isDense ? [blocks[0]!.index, blocks.at(-1)!.index] : blockTicks(blocks)
  const place = { x: 'index', fx: 'kind' } as const
  const stroke = Math.max(2, Math.min(10, (width - 60) / kinds.length / blocks.length / 2.5))
  const plot = draw(name, {
    width,
    height: 270,
    marginLeft: 58,
    marginTop: 44,
    marginBottom: 40,
    fx: { domain: kinds, label: null, padding: 0.08 },
    x: { ...blockAxis(blocks), ticks, type: 'point', padding: 0.6 },
    y: { grid: true, ticks: 5, tickSize: 0, labelArrow: 'none', labelAnchor: 'center', ...y },
    marks: [
      Plot.axisFx({
        anchor: 'top',
        lineWidth: (width - 60) / kinds.length / 13,
        lineHeight: 1.25,
        fill: 'var(--soft)',
      }),
      Plot.ruleX(all, { ...place, y1: 'least', y2: 'greatest', stroke: 'var(--before)', strokeWidth: 1 }),
      Plot.ruleX(all, {
        ...{ ...place, y1: 'lower', y2: 'upper', stroke: 'var(--accent)', strokeOpacity: 0.35, strokeWidth: stroke },
      }),
      Plot.dot(all, { ...place, y: 'median', fill: 'var(--accent)', r: Math.min(3.5, stroke / 2 + 0.5) }),
    ],
  })
  const legend = markup`${key('after', 'median')}${key('box', 'middle half')}${key('whisker', 'least to greatest')}`
  return figure({ name, plot, legend, table: table(name, all, SPREAD_COLUMNS) })
}

/** Clip ratios of all linears; undefined where no clipping was learned. */
export function clipRatios(blocks: readonly BlockReport[]): Section | undefined {
  const all = kindsIn(blocks).flatMap(({ index, kind, linears }): Box[] => {
    const spreads = linears.flatMap(({ clipping }) => clipping ?? [])
    if (spreads.length === 0) return []
    const of = (part: keyof Spread) => spreads.map(spread => spread[part])
    const [least, greatest] = [Math.min(...of('least')), Math.max(...of('greatest'))]
    return [
      { index, kind, least, lower: mean(of('lower')), median: mean(of('median')), upper: mean(of('upper')), greatest },
    ]
  })
  if (all.length === 0) return undefined
  return {
    id: 'clipping',
    title: 'Learned clipping of weights',
    says: 'Each group of weights is quantized over a share of its range. At 1 the whole range is used; at 0.8 the largest fifth of the range is cut off, and the steps between codes are finer. For each linear: the shares of all its groups, at both ends.',
    content: boxes('Shares of their range that groups of weights are quantized over', all, blocks, {
      label: 'Share of the range',
    }),
  }
}

/** Scales of the learned transformations; undefined where there are none. */
export function letScales(blocks: readonly BlockReport[]): Section | undefined {
  const kinds = kindsOf(blocks.map(({ scales = [] }) => scales.map(({ mapping }) => mapping)))
  const all = blocks.flatMap(({ index, scales = [] }, b) =>
    scales.map(({ scales: spread }, i): Box => ({ index, kind: kinds[b]![i]!.replace('->', '→'), ...spread })),
  )
  if (all.length === 0) return undefined
  return {
    id: 'scales',
    title: 'Scales of learned transformations',
    says: 'Activations are divided by these scales channel by channel, and the weights that read them are multiplied: the model computes the same, and difficulty moves from activations to weights. A scale of 1 changes nothing; the scale of the plot is logarithmic.',
    content: boxes(
      'Scales of learned transformations',
      all,
      blocks,
      logAxis(
        'Scale',
        all.flatMap(({ least, greatest }) => [least, greatest]),
      ),
    ),
  }
}
