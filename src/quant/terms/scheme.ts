/** @file Schemes: bits, groups, symmetry. Parses and prints "w4a16g128"; knows no model. */

import { QuantError } from '../../errors.ts'
import type { ActivationQuantizer } from '../../kernels/tokens.ts'
import { option } from '../../option-mark.ts'

/** Bits of the weights outside the blocks; weights without an entry stay float. */
export interface EmbeddingOptions {
  readonly lmHead?: EmbeddingBits | undefined
  readonly embedding?: EmbeddingBits | undefined
  /** Those of the two that nobody asked for by name: where they cannot be quantized they stay float, and a note says why. */
  readonly wherePossible?: readonly OuterWeight[] | undefined
}

/** A weight outside the blocks, by the key of its option. */
export type OuterWeight = 'lmHead' | 'embedding'

/** The same as a caller gives them: "float" where a target would quantize. */
export interface EmbeddingChoices {
  readonly lmHead?: EmbeddingBits | 'float' | undefined
  readonly embedding?: EmbeddingBits | 'float' | undefined
}

/** Exceptions from the scheme; what a pattern matches is in patterns.ts, names are those `inspect` shows. */
export interface WeightRules {
  /** Patterns of linears that stay float; they win over `overrides`. */
  readonly ignore?: readonly string[] | undefined
  /** The last one that matches counts. */
  readonly overrides?: readonly PatternOverride[] | undefined
}

/** An override for the weights whose names match. */
export interface PatternOverride extends WeightOverride {
  readonly pattern: string
}

/** Quantization of weights. */
export interface WeightScheme {
  /** 2 to 8. */
  readonly bits: number
  /** Weights along K that share a scale; undefined = per output channel. */
  readonly group: number | undefined
  readonly symmetric: boolean
}

export interface QuantScheme {
  readonly weights: WeightScheme
  /** Quantization of activations, per token; undefined leaves them as they are. */
  readonly activations: ActivationQuantizer | undefined
}

/** Options that win over the text of a scheme. */
export interface SchemeOverrides {
  readonly group?: number | undefined
  readonly perChannel?: boolean | undefined
  readonly symmetric?: boolean | undefined
  readonly symmetricActivations?: boolean | undefined
}

/** Group sizes onnxruntime's MatMulNBits runs on every provider (onnxruntime 1.30). */
export const GROUP_SIZES: readonly number[] = [16, 32, 64, 128, 256]

export const DEFAULT_GROUP = 128

/** Bits of lm_head and embeddings: those MatMulNBits and GatherBlockQuantized both have (onnxruntime 1.30). */
export const EMBEDDING_BITS: readonly EmbeddingBits[] = [2, 4, 8]

export type EmbeddingBits = 2 | 4 | 8

/** Exception from a scheme for some weights. Absent fields are those of the scheme. */
export interface WeightOverride {
  /** 2 to 8. */
  readonly bits: number
  readonly group?: number | undefined
  readonly symmetric?: boolean | undefined
}

const PATTERN = /^w(\d+)a(\d+)(?:g(\d+))?$/

const OVERRIDE = /^w(\d+)(?:g(\d+))?(sym)?$/

/** Bits that mean: not quantized. */
const FLOAT_BITS = 16

const schemeError = (message: string, hint: string, key: string): QuantError =>
  new QuantError('E_SCHEME', message, hint, { option: key })

/** @param key option that the numbers come from. @throws E_SCHEME */
export function checkWeights(bits: number, group: number | undefined, key: string): void {
  if (!(Number.isInteger(bits) && bits >= 2 && bits <= 8))
    throw schemeError(`${bits}-bit weights cannot be made`, 'Weights can have 2 to 8 bits.', key)
  if (group === undefined || GROUP_SIZES.includes(group)) return
  throw schemeError(
    `groups of ${group} weights cannot be stored`,
    `onnxruntime's MatMulNBits knows groups of ${GROUP_SIZES.join(', ')}; ${option('perChannel')} shares one scale per output.`,
    key,
  )
}

/** @throws E_SCHEME */
function checkActivations(weightBits: number, bits: number): void {
  if (Number.isInteger(bits) && bits >= 4 && bits <= 8) return
  throw schemeError(
    `${bits}-bit activations cannot be made`,
    `Activations can have 4 to 8 bits, or 16, which leaves them as they are: w${weightBits}a16.`,
    'scheme',
  )
}

/** The scheme itself, where it can be made. @throws E_SCHEME */
export function checkScheme(scheme: QuantScheme): QuantScheme {
  const { weights, activations } = scheme
  checkWeights(weights?.bits, weights?.group, 'scheme')
  if (activations) checkActivations(weights.bits, activations.bits)
  return scheme
}

/** Grouping of weights of so many bits that are multiplied with float activations, where nothing is said. */
export type UsualWeights = (bits: number) => Omit<WeightScheme, 'bits'>

/**
 * Reads "w4a16", "w3a16g64", "w4a4". Weights are grouped as `usual` says (default: groups of 128 with zero points) unless activations are
 * quantized too: integer arithmetic wants one scale per output.
 * @throws E_SCHEME for bits or groups that cannot be made.
 */
export function parseScheme(
  text: string,
  overrides: SchemeOverrides = {},
  usual: UsualWeights = () => ({ group: DEFAULT_GROUP, symmetric: false }),
): QuantScheme {
  const match = PATTERN.exec(text.toLowerCase())
  if (!match) throw schemeError(`"${text}" is not a scheme`, 'Write for example w4a16, w3a16 or w2a16g64.', 'scheme')
  const [bits, activationBits] = [Number(match[1]), Number(match[2])]
  checkWeights(bits, undefined, 'scheme')
  const quantized = activationBits !== FLOAT_BITS
  if (quantized) checkActivations(bits, activationBits)
  if (overrides.symmetricActivations && !quantized) {
    throw schemeError(
      'there are no quantized activations to be symmetric',
      `Say for example w${bits}a8.`,
      'symmetricActivations',
    )
  }
  if (overrides.perChannel && overrides.group !== undefined) {
    throw schemeError(
      `${option('group')} and ${option('perChannel')} exclude each other`,
      'Give one of them.',
      'perChannel',
    )
  }
  const unsaid = quantized ? { group: undefined, symmetric: false } : usual(bits)
  const asked = overrides.group ?? (match[3] === undefined ? unsaid.group : Number(match[3]))
  const group = overrides.perChannel ? undefined : asked
  checkWeights(bits, group, overrides.group === undefined ? 'scheme' : 'group')
  const activations = { bits: activationBits, symmetric: overrides.symmetricActivations ?? false }
  return {
    weights: { bits, group, symmetric: overrides.symmetric ?? unsaid.symmetric },
    activations: quantized ? activations : undefined,
  }
}

/**
 * Reads "w8", "w8g64", "w3g32sym": bits, group, no zero points.
 * @throws E_SCHEME for bits or groups that cannot be made.
 */
export function parseWeightOverride(text: string): WeightOverride {
  const match = OVERRIDE.exec(text.toLowerCase())
  if (!match) {
    throw schemeError(
      `"${text}" does not say how to quantize weights`,
      `Write for example w8, w8g64 or w4g32sym; what shall stay float goes to ${option('ignore')}.`,
      'overrides',
    )
  }
  const [bits, group] = [Number(match[1]), match[2] === undefined ? undefined : Number(match[2])]
  checkWeights(bits, group, 'overrides')
  return { bits, ...(group !== undefined && { group }), ...(match[3] && { symmetric: true }) }
}

/** "w8", "w8g64sym". */
export function weightOverrideName({ bits, group, symmetric }: WeightOverride): string {
  return `w${bits}${group === undefined ? '' : `g${group}`}${symmetric ? 'sym' : ''}`
}

/** "w4a16g128", "w3a16" (per channel), "w4a16g32sym", "w4a4", "w8a8-symact" (symmetric activations). */
export function schemeName({ weights, activations }: QuantScheme): string {
  const group = weights.group === undefined ? '' : `g${weights.group}`
  const symmetric = `${weights.symmetric ? 'sym' : ''}${activations?.symmetric ? '-symact' : ''}`
  return `w${weights.bits}a${activations?.bits ?? FLOAT_BITS}${group}${symmetric}`
}
