/** @file Schemes: bits, groups, symmetry. Parses and prints "w4a16g128"; knows no model. */

import { QuantError } from '../../errors.ts'
import { type RangeQuantizer, STATIC_BITS } from '../../kernels/static-range.ts'
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
  /** Bits of lm_head: 2, 4, 8 or "float" (default: as the target has it). */
  readonly lmHead?: EmbeddingBits | 'float' | undefined
  /** Bits of the embedding, likewise. A tied pair with the same bits is stored once. */
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
  /** Quantization of activations; undefined leaves them as they are. */
  readonly activations: SiteQuantizer | undefined
}

/** Quantizer of activations: per token while the model runs, or over a fixed range. */
export type SiteQuantizer = ActivationQuantizer | RangeQuantizer

/** Options that win over the text of a scheme. */
export interface SchemeOverrides {
  /** Weights that share a scale: 16, 32, 64, 128 or 256 (default: as the target has it). */
  readonly group?: number | undefined
  /** One scale per output instead of groups (default: false). */
  readonly perChannel?: boolean | undefined
  /** No zero points of weights: smaller, less exact (default: as the target has it). */
  readonly symmetric?: boolean | undefined
  /** No zero points of quantized activations (default: false). */
  readonly symmetricActivations?: boolean | undefined
  /** Quantize activations over fixed ranges; 16 bits are integers then. */
  readonly staticActivations?: boolean | undefined
}

/** Group sizes onnxruntime's MatMulNBits runs on every provider (onnxruntime 1.30). */
export const GROUP_SIZES: readonly number[] = [16, 32, 64, 128, 256]

const DEFAULT_GROUP = 128

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
function checkActivations(weightBits: number, { kind, bits }: SiteQuantizer): void {
  if (kind === 'static') {
    if (STATIC_BITS.includes(bits)) return
    throw schemeError(
      `${bits}-bit static activations cannot be made`,
      `QuantizeLinear makes integers of ${STATIC_BITS.join(' or ')} bits: say w${weightBits}a8 or w${weightBits}a16.`,
      'staticActivations',
    )
  }
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
  if (activations) checkActivations(weights.bits, activations)
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
  const { staticActivations, symmetricActivations } = overrides
  if (staticActivations && symmetricActivations) {
    throw schemeError(
      `${option('staticActivations')} and ${option('symmetricActivations')} exclude each other`,
      'A fixed range has a zero point: it costs nothing when the model runs.',
      'symmetricActivations',
    )
  }
  const activations = activationsOf(activationBits, overrides)
  const quantized = activations !== undefined
  if (activations) checkActivations(bits, activations)
  if (symmetricActivations && !quantized) {
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
  const named = match[3] === undefined ? undefined : Number(match[3])
  const other = overrides.perChannel ? 'perChannel' : 'group'
  if (named !== undefined && (overrides.perChannel || (overrides.group ?? named) !== named)) {
    throw schemeError(
      `${option('scheme', text)} and ${option(other, overrides.perChannel ? true : overrides.group)} contradict each other`,
      'Give one of them.',
      other,
    )
  }
  const unsaid = quantized ? { group: undefined, symmetric: false } : usual(bits)
  const asked = overrides.group ?? named ?? unsaid.group
  const group = overrides.perChannel ? undefined : asked
  checkWeights(bits, group, overrides.group === undefined ? 'scheme' : 'group')
  return { weights: { bits, group, symmetric: overrides.symmetric ?? unsaid.symmetric }, activations }
}

/** Quantizer of activations of so many bits; 16 leave them as they are, unless ranges are fixed. */
function activationsOf(
  bits: number,
  { staticActivations = false, symmetricActivations = false }: SchemeOverrides,
): SiteQuantizer | undefined {
  if (staticActivations) return { kind: 'static', bits }
  return bits === FLOAT_BITS ? undefined : { bits, symmetric: symmetricActivations }
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

/** "-static" for fixed ranges, "-symact" for symmetric ones. */
function activationsName(activations: SiteQuantizer | undefined): string {
  if (activations?.kind === 'static') return '-static'
  return activations?.symmetric ? '-symact' : ''
}

/**
 * "w4a16g128", "w3a16" (per channel), "w4a16g32sym", "w4a4", "w8a8-symact" (symmetric activations), "w8a8-static" and "w8a16-static"
 * (activations as integers of 8 or 16 bits over fixed ranges).
 */
export function schemeName({ weights, activations }: QuantScheme): string {
  const group = weights.group === undefined ? '' : `g${weights.group}`
  const symmetric = weights.symmetric ? 'sym' : ''
  return `w${weights.bits}a${activations?.bits ?? FLOAT_BITS}${group}${symmetric}${activationsName(activations)}`
}
