/** @file Texts that models wrote -> text for people. Pure: prints nothing. */

import { printable, printableLine } from '../printable.ts'
import type { GenerateReport, Stop, Written } from '../quant/terms/generate-options.ts'
import { paragraphs, shortNames } from './table.ts'

/** Narrowest column that is worth reading, and the space between two. */
const MIN_COLUMN = 30
const GAP = 3

const ENDS: Readonly<Record<Stop, string>> = {
  end: 'end of text',
  maxTokens: 'as many as asked for',
  positions: 'no more positions',
}

/** "12 tokens (end of text), 35.1 tokens/s" */
export function writtenLine({ tokens, stopped, tokensPerSecond, cached }: Written): string {
  const speed = Number.isFinite(tokensPerSecond) ? `, ${tokensPerSecond.toFixed(1)} tokens/s` : ''
  return `${tokens.length} tokens (${ENDS[stopped]})${speed}${cached ? '' : ' without a cache'}`
}

/** Lines no longer than `width`, broken at spaces where there are any. */
function wrapped(text: string, width: number): string[] {
  return text.split('\n').flatMap(line => {
    const lines: string[] = []
    let rest = line
    while (rest.length > width) {
      const space = rest.lastIndexOf(' ', width)
      const end = space > 0 ? space : width
      lines.push(rest.slice(0, end))
      rest = rest.slice(space > 0 ? end + 1 : end)
    }
    return [...lines, rest]
  })
}

function sideBySide(texts: readonly [string, string], width: number): string {
  const [left, right] = texts.map(text => wrapped(text, width)) as [string[], string[]]
  return Array.from({ length: Math.max(left.length, right.length) }, (_, i) =>
    `${(left[i] ?? '').padEnd(width + GAP)}${right[i] ?? ''}`.trimEnd(),
  ).join('\n')
}

const quoted = (text: string | null): string => (text === null ? 'ends' : `writes ${JSON.stringify(text)}`)

/**
 * Two texts in columns, or one after the other, and the first token at which they part.
 * @param columns width of the terminal; undefined where there is none.
 */
export function formatComparison(report: GenerateReport, columns: number | undefined): string {
  const both = [report, report.compare!] as const
  const names = shortNames(both.map(({ model }) => model)).map(printableLine)
  const titles = both.map((written, i) => `${names[i]}: ${writtenLine(written)}`)
  const texts = both.map(({ text }) => printable(text))
  const width = columns === undefined ? 0 : Math.floor((columns - GAP) / 2)
  const shown =
    width < MIN_COLUMN
      ? paragraphs(...both.map((_, i) => `${titles[i]}\n${texts[i]}`))
      : sideBySide([`${titles[0]}\n\n${texts[0]}`, `${titles[1]}\n\n${texts[1]}`], width)
  const { parting } = report
  const end = parting
    ? `the same for ${parting.index} tokens; then ${names[0]} ${quoted(parting.texts[0])}, ${names[1]} ${quoted(parting.texts[1])}`
    : `the same ${report.tokens.length} tokens`
  return paragraphs(shown, end)
}
