/** @file Resolves what a run makes of weights: the scheme, and the bits of lm_head and embedding. */

import { usageError } from '../../errors.ts'
import { containerBits } from '../../kernels/pack/matmul-nbits.ts'
import { option } from '../../option-mark.ts'
import type { QuantizeOptions } from './options.ts'
import {
  checkScheme,
  type EmbeddingBits,
  type EmbeddingOptions,
  type OuterWeight,
  parseScheme,
  type QuantScheme,
} from './scheme.ts'
import { type TargetDefaults, TARGETS } from './targets.ts'

/** Options that say a part of the scheme, besides `scheme` itself. */
export const SCHEME_PARTS: readonly (keyof QuantizeOptions)[] = [
  'bits',
  'activationBits',
  'group',
  'perChannel',
  'symmetric',
  'symmetricActivations',
  'staticActivations',
]

/** The scheme that the options say together. @param defaults of the target. @throws E_USAGE, E_SCHEME */
export function resolveScheme(given: QuantizeOptions, defaults: TargetDefaults): QuantScheme {
  const { scheme, bits, activationBits, group, perChannel, symmetric, symmetricActivations, staticActivations } = given
  if (typeof scheme === 'object') {
    const double = SCHEME_PARTS.find(key => given[key] !== undefined)
    if (double) throw usageError(`${option('scheme')} as an object says everything: leave out ${option(double)}`)
    return checkScheme(scheme)
  }
  if (scheme !== undefined && (bits !== undefined || activationBits !== undefined)) {
    throw usageError(
      `${option('scheme', scheme)} already says how many bits`,
      `Leave out ${option('bits')} and ${option('activationBits')}.`,
      'bits',
    )
  }
  if (scheme === undefined && bits === undefined && given.target === undefined) {
    const examples = ['w4a16', 'w3a16', 'w2a16'].map(name => option('scheme', name)).join(', ')
    throw usageError(
      'how many bits shall the weights have?',
      `Give a scheme such as ${examples} or ${option('scheme', 'w8a16')} (${option('scheme', 'w4a16g64')} for groups of 64), or ${option('bits', 'N')}.`,
      'scheme',
    )
  }
  const name = scheme ?? nameOfBits(given)
  const unsaid = staticActivations === undefined && symmetricActivations === undefined && given.format === undefined
  return parseScheme(
    name,
    {
      group,
      perChannel,
      symmetric,
      symmetricActivations,
      staticActivations:
        staticActivations || (unsaid && defaults.format.quantizedActivations === 'qdq' && !isWeightOnly(name)),
    },
    weightBits => defaults.weights[containerBits(weightBits)],
  )
}

const isWeightOnly = (name: string): boolean => parseScheme(name).activations === undefined

/** Name of the scheme that bits say; without any it is that of the target. */
function nameOfBits({ target, bits, activationBits }: QuantizeOptions): string {
  const usual = target === undefined ? undefined : TARGETS[target].scheme
  if (usual === undefined || bits !== undefined) return `w${bits}a${activationBits ?? 16}`
  return activationBits === undefined ? usual : `w${parseScheme(usual).weights.bits}a${activationBits}`
}

/** Bits of lm_head and embedding: as they were given, else as the target has them. */
export function resolveEmbeddings(
  given: QuantizeOptions,
  scheme: QuantScheme,
  defaults: TargetDefaults,
): EmbeddingOptions {
  const width = containerBits(scheme.weights.bits)
  const bitsOf = (key: OuterWeight): EmbeddingBits | undefined => {
    const asked = given[key]
    return asked === 'float' ? undefined : (asked ?? defaults[key][width])
  }
  const wherePossible = (['lmHead', 'embedding'] as const).filter(key => !given[key] && defaults[key][width])
  return { lmHead: bitsOf('lmHead'), embedding: bitsOf('embedding'), wherePossible }
}
