/** @file What is wanted: bits, groups, symmetry. Parses and prints "w4a16g128"; knows no model. */

import { QuantError } from '../errors.ts'

/** How weights are quantized. */
export interface WeightScheme {
  /** 2 to 8. */
  readonly bits: number
  /** Weights along K that share a scale; undefined = per output channel. */
  readonly group: number | undefined
  readonly symmetric: boolean
}

export interface QuantScheme {
  readonly weights: WeightScheme
  /** Bits of the activations; 16 leaves them as they are. */
  readonly activationBits: number
}

/** Group sizes onnxruntime's MatMulNBits runs on every provider (design/ort-facts.md section 1). */
export const GROUP_SIZES: readonly number[] = [16, 32, 64, 128, 256]
export const DEFAULT_GROUP = 128

const PATTERN = /^w(\d+)a(\d+)(?:g(\d+))?$/

/**
 * Reads "w4a16", "w3a16g64"; `overrides` come from flags of their own and win.
 * @throws E_SCHEME for bits or groups that cannot be made.
 */
export function parseScheme(
  text: string,
  overrides: { group?: number; perChannel?: boolean; symmetric?: boolean } = {},
): QuantScheme {
  const match = PATTERN.exec(text.toLowerCase())
  if (!match)
    throw new QuantError('E_SCHEME', `"${text}" is not a scheme`, 'Write for example w4a16, w3a16 or w2a16g64.')
  const [bits, activationBits] = [Number(match[1]), Number(match[2])]
  if (bits < 2 || bits > 8) {
    throw new QuantError('E_SCHEME', `${bits}-bit weights cannot be made`, 'Weights can have 2 to 8 bits.')
  }
  if (activationBits !== 16) {
    throw new QuantError(
      'E_SCHEME',
      `${activationBits}-bit activations are not supported by this version`,
      `Use w${bits}a16: it quantizes the weights only.`,
    )
  }
  if (overrides.perChannel && overrides.group !== undefined) {
    throw new QuantError('E_SCHEME', '--group and --per-channel exclude each other', 'Give one of them.')
  }
  const asked = overrides.group ?? (match[3] === undefined ? DEFAULT_GROUP : Number(match[3]))
  const group = overrides.perChannel ? undefined : asked
  if (group !== undefined && !GROUP_SIZES.includes(group)) {
    throw new QuantError(
      'E_SCHEME',
      `groups of ${group} weights cannot be stored`,
      `onnxruntime's MatMulNBits knows groups of ${GROUP_SIZES.join(', ')}; --per-channel shares one scale per output.`,
    )
  }
  return { weights: { bits, group, symmetric: overrides.symmetric ?? false }, activationBits }
}

/** "w4a16g128", "w3a16" (per channel), "w4a16g32sym". */
export function schemeName({ weights, activationBits }: QuantScheme): string {
  const group = weights.group === undefined ? '' : `g${weights.group}`
  return `w${weights.bits}a${activationBits}${group}${weights.symmetric ? 'sym' : ''}`
}
