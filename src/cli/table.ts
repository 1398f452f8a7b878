/** @file Tables of text, and names in them. Prints nothing. */

import { printableLine } from '../printable.ts'

/** Columns as wide as their widest cell, two spaces between; a column whose number is in `right` is set right-aligned. */
export function table(cells: readonly (readonly string[])[], right: readonly number[] = []): string {
  // Now, because an escape is wider than what it stands for.
  const rows = cells.map(row => row.map(printableLine))
  const widths: number[] = []
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)))
  return rows
    .map(row =>
      row
        .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** "past.0.key" ... "past.11.key" -> "past.{0..11}.key" */
export function nameRange(first: string, last: string): string {
  const number = /\d+/.exec(last)?.[0]
  return first === last ? first : first.replace(/\d+/, start => `{${start}..${number}}`)
}

/** A name with its first number left open. */
export const withoutNumber = (name: string): string => name.replace(/\d+/, '#')

/** Shortest ends of paths by which they differ, without what all of them end with: "/a/w4/model.onnx", "/a/w8/model.onnx" -> "w4", "w8". */
export function shortNames(paths: readonly string[]): string[] {
  const parts = paths.map(path => path.split(/[\\/]/).filter(part => part !== ''))
  const [first] = parts
  if (new Set(paths).size === 1) return paths.map(() => first!.slice(-2).join('/'))
  const most = Math.min(...parts.map(each => each.length)) - 1
  let same = 0
  while (same < most && parts.every(each => each.at(-1 - same) === first!.at(-1 - same))) same++
  const ends = parts.map(each => each.slice(0, each.length - same))
  const different = new Set(paths).size
  for (let count = 1; ; count++) {
    const names = ends.map(each => each.slice(-count).join('/'))
    if (new Set(names).size === different || ends.every(each => each.length <= count)) return names
  }
}

/** Paragraphs that have something to say, with an empty line between them. */
export const paragraphs = (...texts: readonly string[]): string => texts.filter(text => text !== '').join('\n\n')

export const noteLines = (notes: readonly string[]): string =>
  notes.map(note => printableLine(`note: ${note}`)).join('\n')
