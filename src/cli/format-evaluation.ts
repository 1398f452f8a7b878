/** @file The report of an evaluation -> a table for people. Pure: prints nothing. */

import { printableLine } from '../printable.ts'
import type { Compared, EvaluateReport } from '../quant/evaluate.ts'
import { formatBytes, formatCount } from './format-numbers.ts'
import { noteLines, paragraphs, shortNames, table } from './table.ts'

/** "12.346 ±0.120"; the number alone where its error is not known. */
const withError = (value: string, error: number, digits: number): string =>
  Number.isFinite(error) ? `${value} ±${error.toFixed(digits)}` : value

/** "0.0123", "1.2e-6" */
const formatKl = (kl: number): string => (kl > 0 && kl < 1e-4 ? kl.toExponential(1) : kl.toPrecision(3))

const perSecond = (tokens: number): string => `${formatCount(tokens)}/s`

/** Column of the table. It is left out where no model has anything in it. */
interface Column {
  readonly head: string
  readonly cell: (model: Compared) => string | undefined
}

const COLUMNS: readonly Column[] = [
  { head: 'size', cell: ({ sizeBytes }) => formatBytes(sizeBytes) },
  { head: 'bits/weight', cell: ({ bitsPerWeight }) => bitsPerWeight?.toFixed(2) },
  {
    head: 'perplexity',
    cell: ({ perplexity, perplexityError }) => withError(perplexity.toFixed(3), perplexityError, 3),
  },
  { head: 'ratio', cell: ({ ratio }) => (ratio === undefined ? undefined : `x${ratio.toFixed(4)}`) },
  { head: 'KL mean', cell: ({ divergence }) => divergence && formatKl(divergence.klMean) },
  { head: 'median', cell: ({ divergence }) => divergence && formatKl(divergence.klMedian) },
  { head: '99 %', cell: ({ divergence }) => divergence && formatKl(divergence.kl99) },
  {
    head: 'same top',
    cell: ({ divergence }) =>
      divergence && `${withError((100 * divergence.sameTop).toFixed(2), 100 * divergence.sameTopError, 2)} %`,
  },
  // Of an evaluation that did not measure the speed of one sequence.
  { head: 'tokens', cell: ({ speed, tokensPerSecond }) => (speed ? undefined : perSecond(tokensPerSecond)) },
  { head: 'prefill', cell: ({ speed }) => speed && perSecond(speed.prefillTokensPerSecond) },
  {
    head: 'decode',
    cell: ({ speed }) => speed && `${perSecond(speed.decodeTokensPerSecond)}${speed.cached ? '' : ' (no cache)'}`,
  },
  {
    head: 'memory',
    cell: ({ speed }) => (speed?.peakMemoryBytes === undefined ? undefined : formatBytes(speed.peakMemoryBytes)),
  },
]

/** @param labels names of the model and the reference (default: what tells their paths apart). */
export function formatEvaluation(report: EvaluateReport, labels?: readonly [string, string]): string {
  const { against, others = [], windows, seqLen, stride, text, notes = [] } = report
  const models: readonly Compared[] = [report, ...others, ...(against ? [against] : [])]
  const names = labels ?? shortNames(models.map(({ model }) => model))
  const columns = COLUMNS.filter(({ cell }) => models.some(model => cell(model) !== undefined))
  const rows = models.map((model, i) => [names[i]!, ...columns.map(({ cell }) => cell(model) ?? '')])
  const heads = ['', ...columns.map(({ head }) => head)]
  const overlap = stride < seqLen ? `, each ${stride} tokens after the last,` : ''
  const facts = [
    `${windows} windows of ${seqLen} tokens${overlap} of ${text}`,
    ...(against
      ? [`compared with ${names[models.length - 1]}: ratio${report.divergence ? ', KL, same top' : ''}`]
      : []),
  ]
  return paragraphs(
    table([heads, ...rows], heads.map((_, i) => i).slice(1)),
    facts.map(printableLine).join('\n'),
    noteLines(notes),
  )
}
