/** @file Patterns for names such as "layers.0.mlp.down_proj": what matches, and what comes near. Knows strings only. */

/**
 * Whether a name matches. A name has segments with dots between them; a pattern matches when it is the whole name, or a run of
 * whole segments of it anywhere: "down_proj", "mlp", "layers.1" (which is not "layers.10") and "layers.1.mlp" all match
 * "layers.1.mlp.down_proj". In a pattern `*` stands for any characters or none, dots included, and `?` for exactly one; everything
 * else stands for itself, capitals too: "layers.0.*", "*.o_proj", "*_proj", "layers.?.mlp".
 */
export function nameMatcher(pattern: string): (name: string) => boolean {
  const glob = pattern.replace(/\*+|[\\^$.|?+()[\]{}]/g, special => {
    if (special.startsWith('*')) return '.*'
    return special === '?' ? '.' : `\\${special}`
  })
  const expression = new RegExp(`(?:^|\\.)${glob}(?:\\.|$)`, 's')
  return name => expression.test(name)
}

/** Insertions, deletions and replacements that make `b` of `a` (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++)
      next.push(Math.min(row[j + 1]! + 1, next[j]! + 1, row[j]! + (a[i] === b[j] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}

/** The `count` names with a run of segments nearest to the pattern, nearest first. */
export function closestNames(pattern: string, names: readonly string[], count: number): string[] {
  const wanted = pattern.replaceAll('*', '').replace(/^\.+|\.+$/g, '')
  const length = wanted.split('.').length
  const nearness = (name: string): number => {
    const segments = name.split('.')
    const runs = segments.map((_, i) => segments.slice(i, i + length).join('.'))
    return Math.min(...runs.map(run => distance(wanted.toLowerCase(), run.toLowerCase())))
  }
  const known = new Map(names.map(name => [name, nearness(name)]))
  return [...known.keys()].sort((a, b) => known.get(a)! - known.get(b)!).slice(0, count)
}
