/** @file Patterns for names such as "layers.0.mlp.down_proj": matches and near misses. Knows strings only. */

/**
 * Matcher of names. A name has segments with dots between them; a pattern matches when it is the whole name, or a run of
 * whole segments of it anywhere: "down_proj", "mlp", "layers.1" (which is not "layers.10") and "layers.1.mlp" all match
 * "layers.1.mlp.down_proj". In a pattern `*` stands for any characters or none, dots included, and `?` for exactly one; everything
 * else stands for itself, capitals too: "layers.0.*", "*.o_proj", "*_proj", "layers.?.mlp".
 */
export function nameMatcher(pattern: string): (name: string) => boolean {
  // Between dots, a run of whole segments begins and ends with one wherever it is.
  const parts = `.${pattern}.`.split(/\*+/)
  const least = parts.reduce((sum, part) => sum + part.length, 0)
  return name => {
    const text = `.${name}.`
    if (text.length < least) return false
    // Each part as early as it can be: what is left for the others is largest then, so nothing has to be tried twice.
    let end = 0
    for (const part of parts) {
      const start = findPart(text, part, end)
      if (start < 0) return false
      end = start + part.length
    }
    return true
  }
}

/** First place from `from` on where a part without `*` fits; -1 without one. */
function findPart(text: string, part: string, from: number): number {
  if (!part.includes('?')) return text.indexOf(part, from)
  for (let start = from; start + part.length <= text.length; start++) {
    let i = 0
    while (i < part.length && (part[i] === '?' || part[i] === text[start + i])) i++
    if (i === part.length) return start
  }
  return -1
}

/** Insertions, deletions and replacements that make `b` of `a` (Levenshtein). */
function distance(a: string, b: string): number {
  const row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 0; i < a.length; i++) {
    let diagonal = i
    row[0] = i + 1
    for (let j = 0; j < b.length; j++) {
      const replaced = diagonal + (a[i] === b[j] ? 0 : 1)
      diagonal = row[j + 1]!
      row[j + 1] = Math.min(diagonal + 1, row[j]! + 1, replaced)
    }
  }
  return row[b.length]!
}

/** Comparisons of two characters in one search, well below a second: enough for 20 000 names as models have them. */
const MAX_COMPARISONS = 5e7

/**
 * The `count` names with a run of segments nearest to the pattern, nearest first. A name that is too long to be compared with the work
 * that is left is passed over.
 */
export function closestNames(pattern: string, names: readonly string[], count: number): string[] {
  const all = pattern.replaceAll('*', '').toLowerCase().split('.')
  const named = (word: string) => word !== ''
  const words = all.slice(all.findIndex(named), all.findLastIndex(named) + 1)
  const wanted = words.join('.')
  let left = MAX_COMPARISONS
  const known = new Map<string, number>()
  for (const name of new Set(names)) {
    const segments = name.toLowerCase().split('.')
    const work = (wanted.length + 8) * (name.length * Math.min(words.length, segments.length) + 8 * segments.length)
    if (work > left) continue
    left -= work
    const runs = segments.map((_, i) => segments.slice(i, i + Math.max(1, words.length)).join('.'))
    known.set(name, Math.min(...runs.map(run => distance(wanted, run))))
  }
  return [...known.keys()].sort((a, b) => known.get(a)! - known.get(b)!).slice(0, count)
}
