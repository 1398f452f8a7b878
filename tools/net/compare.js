/** @file Two results of the net, row by row. Pure. */

/** Leaves of a document: "path" -> value as text. */
function leaves(value, path = '') {
  if (typeof value !== 'object' || value === null) return [[path, JSON.stringify(value)]]
  const entries = Object.entries(value)
  if (entries.length === 0) return [[path, Array.isArray(value) ? '[]' : '{}']]
  return entries.flatMap(([key, item]) => leaves(item, path === '' ? key : `${path} / ${key}`))
}

/** Differences between two results of a case: "path: before -> after". */
function differences(before, after) {
  const [a, b] = [new Map(leaves(before)), new Map(leaves(after))]
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter(path => a.get(path) !== b.get(path))
    .map(path => `${path}: ${a.get(path) ?? 'absent'} -> ${b.get(path) ?? 'absent'}`)
}

/**
 * @param before @param after results of the net, { meta, cases }
 * @param {boolean} filesOnly compares written files and exit codes, not words and figures of reports.
 * @returns {{ equal: string[], changed: { id: string, differences: string[] }[], missing: string[], added: string[],
 *   surroundings: string[] }} surroundings: what differs between the machines and versions of the two.
 */
export function compareNets(before, after, filesOnly = false) {
  const seen = ({ commands, files }) =>
    filesOnly ? { commands: commands.map(({ exitCode }) => ({ exitCode })), files } : { commands, files }
  const ids = Object.keys(before.cases)
  const shared = ids.filter(id => id in after.cases)
  const rows = shared.map(id => ({ id, differences: differences(seen(before.cases[id]), seen(after.cases[id])) }))
  const machine = ({ node, onnxruntime, machine }) => ({ node, onnxruntime, machine })
  return {
    equal: rows.filter(row => row.differences.length === 0).map(({ id }) => id),
    changed: rows.filter(row => row.differences.length > 0),
    missing: ids.filter(id => !(id in after.cases)),
    added: Object.keys(after.cases).filter(id => !(id in before.cases)),
    surroundings: differences(machine(before.meta), machine(after.meta)),
  }
}

/** Differences shown for each case. */
const SHOWN = 12
const WIDTH = 300

/** @param {ReturnType<typeof compareNets>} compared */
export function formatComparison({ equal, changed, missing, added, surroundings }) {
  const cut = line => (line.length > WIDTH ? `${line.slice(0, WIDTH)}...` : line)
  return [
    ...surroundings.map(line => `made elsewhere: ${line}`),
    ...missing.map(id => `missing  ${id}`),
    ...added.map(id => `new      ${id}`),
    ...changed.flatMap(({ id, differences }) => [
      `changed  ${id}`,
      ...differences.slice(0, SHOWN).map(line => `           ${cut(line)}`),
      ...(differences.length > SHOWN ? [`           and ${differences.length - SHOWN} more`] : []),
    ]),
    `${equal.length} equal, ${changed.length} changed, ${missing.length} missing, ${added.length} new`,
  ].join('\n')
}
