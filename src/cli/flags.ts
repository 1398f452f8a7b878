/** @file All options of the command line, and what is made of the tables: the options of a dry run, names in messages, values that were typed. */

import type { OptionName } from '../option-mark.ts'
import { type FlagRow, longFlag, shortFlag } from './flag-row.ts'
import { QUANTIZE_FLAGS } from './quantize-flags.ts'
import { DOCTOR_FLAGS, EVALUATE_FLAGS, GENERATE_FLAGS, INSPECT_FLAGS } from './read-flags.ts'

/** Options of `quantize` that say where it writes and what it tells: of no use to a run that is not made. */
const NOT_FORETOLD = new Set<string>([
  ...['output', 'layout', 'overridesFile', 'evaluate', 'saveParams', 'workDir', 'fresh', 'force', 'check'],
  ...['json', 'quiet', 'verbose', 'log', 'device', 'devices', 'timeBudgetMs', 'params'],
  ...INSPECT_FLAGS.map(({ key }) => key),
])

/** Options of `inspect`: its own, and those of the run to foretell. */
export const DRY_RUN_FLAGS: readonly FlagRow[] = [
  ...INSPECT_FLAGS,
  ...QUANTIZE_FLAGS.filter(({ key }) => !NOT_FORETOLD.has(key)).map((row, i) => ({
    ...row,
    group: i === 0 ? 'Options of quantize, for the run to foretell:' : undefined,
  })),
]

const ROWS: readonly FlagRow[] = [QUANTIZE_FLAGS, EVALUATE_FLAGS, GENERATE_FLAGS, INSPECT_FLAGS, DOCTOR_FLAGS].flat()

/** Name of an option in messages of the command line: `--samples 4` for the key "samples" with the value 4. */
export const flagName: OptionName = (key, value) => {
  // Schemes are flags of their own.
  if (key === 'scheme' && value !== undefined) return `--${value}`
  const rows = ROWS.filter(row => row.key === key)
  const negative = rows.find(row => longFlag(row).startsWith('--no-'))
  const row = value === 'false' ? negative : rows[0]
  if (!row) return `--${key}`
  return value === undefined || value === 'true' || value === 'false' ? shortFlag(row) : `${shortFlag(row)} ${value}`
}

/** Fields of options from the values that were typed. @param typed texts, lists of texts and booleans, by row. @throws E_USAGE, E_SCHEME */
export function valuesOf(typed: readonly (readonly [FlagRow, unknown])[]): Record<string, unknown> {
  return Object.fromEntries(
    typed.map(([row, value]) => {
      const parse = (text: unknown) => (row.parse && typeof text === 'string' ? row.parse(text, longFlag(row)) : text)
      const parsed = Array.isArray(value) ? value.map(parse) : parse(value)
      return [row.key, row.join ? row.join(parsed as string[]) : parsed]
    }),
  )
}
