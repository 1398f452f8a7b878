/** @file Options that were given and change nothing in a run: a table, and a note for each. */

import { option } from '../option-mark.ts'
import { calibrates, learns } from './learn/learnables.ts'
import type { QuantizeOptions, ResolvedOptions } from './terms/options.ts'
import { ROUNDINGS } from './terms/roundings.ts'

type Key = keyof QuantizeOptions

interface Row {
  readonly keys: readonly Key[]
  readonly idle: (options: ResolvedOptions) => boolean
  /** Reason, as in "has no effect: nothing is learned". */
  readonly because: string
}

const hasCodes = ({ rounding }: ResolvedOptions, codes: string): boolean => ROUNDINGS[rounding].codes === codes

/** The first row that says a key is idle counts. */
const ROWS: readonly Row[] = [
  {
    keys: [
      ...(['preset', 'samples', 'epochs', 'calib', 'seed', 'learningRate', 'schedule', 'optimizer'] as const),
      ...(['roundingLearningRate', 'letLearningRate', 'alpha', 'augLoss', 'lookahead', 'matmul', 'devices'] as const),
      ...(['hiddenStates', 'timeBudgetMs', 'rounding', 'range'] as const),
    ],
    idle: ({ params }) => params !== undefined,
    because: 'what was learned before comes from a file',
  },
  {
    keys: ['samples', 'calib', 'seed', 'hiddenStates'],
    idle: options => !calibrates(options),
    because: 'nothing is learned or observed',
  },
  {
    keys: [
      ...([
        'preset',
        'epochs',
        'learningRate',
        'schedule',
        'optimizer',
        'timeBudgetMs',
        'augLoss',
        'lookahead',
      ] as const),
      ...(['roundingLearningRate', 'letLearningRate', 'alpha', 'matmul', 'devices', 'saveParams'] as const),
    ],
    idle: options => !learns(options),
    because: 'nothing is learned',
  },
  {
    keys: ['roundingLearningRate'],
    idle: options => !hasCodes(options, 'learned'),
    because: 'the rounding of weights is not learned',
  },
  {
    keys: ['letLearningRate', 'alpha', 'keepCache'],
    idle: options => options.let === false,
    because: 'no transformations are learned',
  },
  {
    keys: ['accuracyLevel'],
    idle: ({ scheme, format }) => scheme.activations !== undefined && format !== 'qdq',
    because: 'it is for float activations',
  },
]

/** False for an option that says what would be done anyway. */
const asksForSomething = (value: unknown): boolean => value !== undefined && value !== false

/** A note for each reason. @param given options as the caller gave them. @param options the same, resolved. */
export function idleNotes(given: QuantizeOptions, options: ResolvedOptions): string[] {
  const keys = (Object.keys(given) as Key[]).filter(key => asksForSomething(given[key]))
  const reasons = new Map<string, Key[]>()
  for (const key of keys) {
    const row = ROWS.find(each => each.keys.includes(key) && each.idle(options))
    if (row) reasons.set(row.because, [...(reasons.get(row.because) ?? []), key])
  }
  return [...reasons].map(
    ([because, idle]) =>
      `${idle.map(key => option(key)).join(', ')} ${idle.length === 1 ? 'has' : 'have'} no effect: ${because}`,
  )
}
