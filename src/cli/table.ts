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
