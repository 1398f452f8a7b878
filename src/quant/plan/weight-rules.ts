/** @file Exceptions from the scheme, by patterns for names of weights. Knows names and schemes. */

import { QuantError } from '../../errors.ts'
import { weightOverrideName, type WeightRules, type WeightScheme } from '../terms/scheme.ts'
import { closestNames, nameMatcher } from './patterns.ts'

/** Scheme of a linear's weight; undefined: it stays float. */
export type WeightSchemeOf = (linear: { readonly name: string }) => WeightScheme | undefined

export function weightSchemeOf(scheme: WeightScheme, { ignore = [], overrides = [] }: WeightRules): WeightSchemeOf {
  const ignored = ignore.map(nameMatcher)
  const overridden = overrides.map(override => ({ override, matches: nameMatcher(override.pattern) }))
  return ({ name }) => {
    if (ignored.some(matches => matches(name))) return undefined
    const { bits, group, symmetric } = overridden.findLast(({ matches }) => matches(name))?.override ?? scheme
    return { bits, group: group ?? scheme.group, symmetric: symmetric ?? scheme.symmetric }
  }
}

const CLOSEST = 3

/** Patterns that are named in an error. */
const SHOWN = 10

/**
 * Refuses patterns that match none of the linears.
 * @param names of all linears of the blocks. @throws E_USAGE naming such patterns and what comes near.
 */
export function checkRules({ ignore = [], overrides = [] }: WeightRules, names: readonly string[]): void {
  const patterns = [...ignore, ...overrides.map(({ pattern }) => pattern)]
  const idle = [...new Set(patterns)].filter(pattern => !names.some(nameMatcher(pattern)))
  if (idle.length === 0) return
  const shown = idle.slice(0, SHOWN)
  const more = idle.length > SHOWN ? ` or any of ${idle.length - SHOWN} more patterns` : ''
  const near = [...new Set(shown.flatMap(pattern => closestNames(pattern, names, CLOSEST)))]
  throw new QuantError(
    'E_USAGE',
    `no linear matches ${shown.map(pattern => `"${pattern}"`).join(' or ')}${more}`,
    `${near.length === 0 ? '' : `Closest: ${near.join(', ')}. `}\`omniquant inspect\` shows the linears of all blocks; others stay float anyway.`,
  )
}

/** The rules in one line, the same for the same rules; empty without any. */
export function rulesText({ ignore = [], overrides = [] }: WeightRules): string {
  return [
    ...ignore.map(pattern => `${pattern}:float`),
    ...overrides.map(override => `${override.pattern}:${weightOverrideName(override)}`),
  ].join(' ')
}
