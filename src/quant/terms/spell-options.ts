/**
 * @file Spells out the options of a run: everything that a preset, a target and defaults decide, as options that one could have given.
 * Reads no files.
 */

import { availableParallelism } from 'node:os'
import { isDeepStrictEqual } from 'node:util'
import { QuantError } from '../../errors.ts'
import { RULES } from './option-rules.ts'
import type { QuantizeOptions, ResolvedOptions } from './options.ts'
import { resolveOptions } from './resolve-options.ts'
import { SCHEME_PARTS } from './resolve-scheme.ts'
import type { QuantScheme } from './scheme.ts'

/** Options with the defaults filled in. */
export interface Spelled {
  readonly options: QuantizeOptions
  /**
   * Values that the run itself still adapts to the model, so that giving them would be another run: a number of samples that is less for
   * large models, bits of lm_head where it can have them. By the key of their option.
   */
  readonly adapted: Readonly<Record<string, unknown>>
}

/** Options that say the scheme. */
const SCHEME_KEYS: readonly string[] = ['scheme', ...SCHEME_PARTS]

/** The scheme as text and options, instead of an object: these can be changed one by one. */
function schemeOptions({ weights, activations }: QuantScheme): Partial<QuantizeOptions> {
  const { bits, group, symmetric } = weights
  const isStatic = activations?.kind === 'static'
  return {
    scheme: `w${bits}a${activations?.bits ?? 16}`,
    ...(group === undefined ? { perChannel: true } : { group }),
    symmetric,
    ...(isStatic && { staticActivations: true }),
    ...(activations && !isStatic && { symmetricActivations: activations.symmetric }),
  }
}

/** Options as resolved, by the keys of `QuantizeOptions`; values of other keys are no options. */
const optionsOf = ({ session, lmHead, embedding, ...resolved }: ResolvedOptions, given: QuantizeOptions): object => ({
  ...resolved,
  lmHead: lmHead ?? 'float',
  embedding: embedding ?? 'float',
  matmul: session.matmul,
  preset: given.preset ?? 'default',
})

/** Effect of options: the same run, another one, or none because they are refused. */
function effectOf(options: QuantizeOptions, run: ResolvedOptions): 'same' | 'other' | 'refused' {
  try {
    return isDeepStrictEqual(resolveOptions(options), run) ? 'same' : 'other'
  } catch (error) {
    if (error instanceof QuantError) return 'refused'
    throw error
  }
}

/**
 * Fills in every option that can be given without making another run: `resolveOptions` gives the same for both. Threads are those of this
 * machine, as their number decides the last bits.
 * @throws E_USAGE, E_SCHEME
 */
export function spellOptions(given: QuantizeOptions): Spelled {
  const threaded = { ...given, threads: given.threads ?? availableParallelism() }
  const run = resolveOptions(threaded)
  const rest = Object.fromEntries(Object.entries(threaded).filter(([key]) => !SCHEME_KEYS.includes(key)))
  const named = { ...rest, ...schemeOptions(run.scheme) } as QuantizeOptions
  let options: QuantizeOptions = effectOf(named, run) === 'same' ? named : threaded
  const adapted: Record<string, unknown> = {}
  const known = optionsOf(run, given) as Readonly<Record<string, unknown>>
  const unsaid = Object.keys(RULES).filter(
    key => options[key as keyof QuantizeOptions] === undefined && !SCHEME_KEYS.includes(key),
  )
  for (const key of unsaid) {
    if (known[key] === undefined) continue
    const more: QuantizeOptions = { ...options, [key]: known[key] }
    const effect = effectOf(more, run)
    if (effect === 'same') options = more
    // A refused one is for other schemes, or follows from those that are there.
    else if (effect === 'other') adapted[key] = known[key]
  }
  const order = Object.keys(RULES)
  const sorted = Object.entries(options).sort(([a], [b]) => order.indexOf(a) - order.indexOf(b))
  return { options: Object.fromEntries(sorted.filter(([, value]) => value !== undefined)) as typeof options, adapted }
}
