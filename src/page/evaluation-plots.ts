/** @file Plots and tables of models that were measured on the same text. */

import type { Compared, EvaluateReport, Measured } from '../quant/evaluate.ts'
import { logAxis } from './block-plots.ts'
import { type Html, markup } from './html.ts'
import { modelNames } from './names.ts'
import { bytes, figure as number, NONE, percent } from './numbers.ts'
import { type Column, figure, type Section, table } from './parts.ts'
import { draw, FULL_WIDTH, Plot } from './plot.ts'

/** A measured model with its name on the page. */
interface Row extends Compared {
  readonly name: string
  /** The others are compared with it. */
  readonly isReference: boolean
}

/** All models of a report, the reference last. */
export function rowsOf(report: EvaluateReport): Row[] {
  const { others = [], against } = report
  const models: (Compared | Measured)[] = [report, ...others, ...(against ? [against] : [])]
  const names = modelNames(models.map(({ model }) => model))
  return models.map((model, i) => ({ ...model, name: names[i]!, isReference: model === against }))
}

/** A number with its standard error, where that is known. */
const withError = (value: number | undefined, error: number | undefined): string =>
  value === undefined
    ? NONE
    : Number.isFinite(error)
      ? `${number(value)} ± ${number(Number(error!.toPrecision(2)))}`
      : number(value)

/** A column, and the models that have its number. */
interface Measure extends Column<Row> {
  readonly has: (row: Row) => boolean
}

const MEASURES: readonly Measure[] = [
  {
    name: 'Model',
    of: ({ name, isReference }) => (isReference ? `${name} (reference)` : name),
    text: true,
    has: () => true,
  },
  { name: 'Size', of: ({ sizeBytes }) => bytes(sizeBytes), has: () => true },
  {
    name: 'Bits per weight',
    of: ({ bitsPerWeight }) => number(bitsPerWeight),
    has: ({ bitsPerWeight }) => bitsPerWeight !== undefined,
  },
  {
    name: 'Perplexity',
    of: ({ perplexity, perplexityError }) => withError(perplexity, perplexityError),
    has: () => true,
  },
  { name: 'Ratio', of: ({ ratio }) => number(ratio), has: ({ ratio }) => ratio !== undefined },
  {
    name: 'KL divergence, nats',
    of: ({ divergence }) => withError(divergence?.klMean, divergence?.klMeanError),
    has: ({ divergence }) => divergence !== undefined,
  },
  {
    name: 'Median',
    of: ({ divergence }) => number(divergence?.klMedian),
    has: ({ divergence }) => divergence !== undefined,
  },
  { name: '99 %', of: ({ divergence }) => number(divergence?.kl99), has: ({ divergence }) => divergence !== undefined },
  {
    name: 'Same top token',
    of: ({ divergence }) => percent(divergence?.sameTop),
    has: ({ divergence }) => divergence !== undefined,
  },
  {
    name: 'Prefill, tokens/s',
    of: ({ speed }) => number(speed?.prefillTokensPerSecond),
    has: ({ speed }) => speed !== undefined,
  },
  {
    name: 'Decode, tokens/s',
    of: ({ speed }) => number(speed?.decodeTokensPerSecond),
    has: ({ speed }) => speed !== undefined,
  },
  {
    name: 'Peak memory',
    of: ({ speed }) => bytes(speed?.peakMemoryBytes),
    has: ({ speed }) => speed?.peakMemoryBytes !== undefined,
  },
]

/** All figures of all models. */
export function comparisonTable(report: EvaluateReport): Html {
  const rows = rowsOf(report)
  return table(
    'Measurements of all models',
    rows,
    MEASURES.filter(({ has }) => rows.some(has)),
  )
}

/** Room for a name beside its point. */
const LABEL_SPACE = 14

/** Size against quality; undefined for one model alone. */
export function sizeAndQuality(report: EvaluateReport): Section | undefined {
  const rows = rowsOf(report)
  if (rows.length < 2) return undefined
  const divergent = rows.filter(({ divergence }) => divergence && divergence.klMean > 0)
  const isDivergence = divergent.length > 0
  const shown = isDivergence ? divergent : rows.filter(({ perplexity }) => Number.isFinite(perplexity))
  const of = ({ divergence, perplexity }: Row) => (isDivergence ? divergence!.klMean : perplexity)
  const says = isDivergence
    ? 'How far each model’s predictions are from those of the reference (KL divergence, mean over all tokens), and the bytes of its files. Left and low is better.'
    : 'Perplexity of each model, and the bytes of its files. Left and low is better.'
  const label = isDivergence ? 'KL divergence from the reference, nats' : 'Perplexity'
  const sizes = shown.map(({ sizeBytes }) => sizeBytes / 1e6)
  const greatest = Math.max(...sizes)
  const place = { x: ({ sizeBytes }: Row) => sizeBytes / 1e6, y: of }
  const name = `${label} and size of each model`
  const plot = draw(name, {
    width: FULL_WIDTH,
    height: 320,
    marginLeft: 64,
    marginRight: 40,
    marginBottom: 44,
    x: { label: 'Size, MB', labelArrow: 'none', labelAnchor: 'center', domain: [0, greatest * 1.15], ticks: 8 },
    y: logAxis(label, shown.map(of)),
    marks: [
      Plot.dot(shown, { ...place, r: 6, fill: 'var(--accent)' }),
      Plot.text(shown, { ...place, text: 'name', dx: LABEL_SPACE, textAnchor: 'start' }),
    ],
  })
  return {
    id: 'quality',
    title: 'Size and quality',
    says,
    content: figure({ name, plot, table: comparisonTable(report) }),
  }
}

interface Rate {
  readonly name: string
  readonly kind: string
  readonly tokens: number
}

/** Tokens per second of all models; undefined where they were not timed. */
export function speeds(report: EvaluateReport): Section | undefined {
  const rows = rowsOf(report).filter(({ speed }) => speed !== undefined)
  if (rows.length === 0) return undefined
  const rates = rows.flatMap(({ name, speed }): Rate[] => [
    { name, kind: 'Prefill', tokens: speed!.prefillTokensPerSecond },
    { name, kind: 'Decode', tokens: speed!.decodeTokensPerSecond },
  ])
  const title = 'Tokens per second of each model'
  const names = [...new Set(rates.map(({ name }) => name))]
  const marginLeft = 24 + 6.6 * Math.max(...names.map(name => name.length))
  const bars = (kind: string) => {
    const shown = rates.filter(rate => rate.kind === kind)
    const place = { x: 'tokens', y: 'name' } as const
    return draw(`${kind}: tokens per second`, {
      width: FULL_WIDTH / 2 - 20,
      height: 64 + 34 * shown.length,
      marginLeft: Math.min(220, marginLeft),
      marginRight: 56,
      marginBottom: 40,
      x: { grid: true, ticks: 4, label: `${kind}, tokens/s`, labelArrow: 'none', labelAnchor: 'center' },
      y: { domain: names, label: null, tickSize: 0, padding: 0.35 },
      marks: [
        Plot.barX(shown, { ...place, fill: 'var(--accent)', rx: 1.5 }),
        Plot.text(shown, { ...place, text: ({ tokens }: Rate) => number(tokens), dx: 6, textAnchor: 'start' }),
      ],
    })
  }
  const { tokens } = rows[0]!.speed!
  return {
    id: 'speed',
    title: 'Speed',
    says: `Prefill reads ${tokens} tokens at once; decode writes one token after the other. Longer bars are better. The figures are those of this machine.`,
    content: figure({
      name: title,
      plot: markup`<div class="pair">${bars('Prefill')}${bars('Decode')}</div>`,
      table: comparisonTable(report),
    }),
  }
}
