/** @file Nearest of several names to one that is misspelled. Knows no option. */

/** Share of the letters that may differ: beyond it a name is another one, not a misspelling. */
const MOST_CHANGED = 0.4

/** Least number of letters to insert, remove or replace that makes one text of the other (Levenshtein, 1965). */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, j) => j)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const replaced = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row.at(-1)!
}

/** Letters alone, so that `seq-len`, `seq_len` and `seqLen` are equal. */
const letters = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '')

/** The name that was probably meant; undefined where none is near. @param names candidates, the first of equally near ones wins. */
export function nearestName(given: string, names: readonly string[]): string | undefined {
  const typed = letters(given.slice(0, 64))
  const [nearest] = names
    .map(name => ({ name, changed: distance(typed, letters(name)) }))
    .filter(({ name, changed }) => changed <= MOST_CHANGED * letters(name).length)
    .sort((a, b) => a.changed - b.changed)
  return nearest?.name
}
