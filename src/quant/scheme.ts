/** @file What is wanted: bits, groups, symmetry. Parses and prints "w4a16g128"; knows no model. */

import { QuantError } from '../errors.ts'
import type { ActivationQuantizer } from '../kernels/fake-quantize-tokens.ts'

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
  /** How activations are quantized, per token; undefined leaves them as they are. */
  readonly activations: ActivationQuantizer | undefined
}

/** What flags of their own may say; they win over the scheme's text. */
export interface SchemeOverrides {
  readonly group?: number | undefined
  readonly perChannel?: boolean | undefined
  readonly symmetric?: boolean | undefined
  readonly symmetricActivations?: boolean | undefined
}

/** Group sizes onnxruntime's MatMulNBits runs on every provider (design/ort-facts.md section 1). */
export const GROUP_SIZES: readonly number[] = [16, 32, 64, 128, 256]
export const DEFAULT_GROUP = 128

const PATTERN = /^w(\d+)a(\d+)(?:g(\d+))?$/

/** Bits that mean: not quantized. */
const FLOAT_BITS = 16

/**
 * Reads "w4a16", "w3a16g64", "w4a4". Weights are in groups of 128 unless activations are quantized too: integer arithmetic wants one
 * scale per output.
 * @throws E_SCHEME for bits or groups that cannot be made.
 */
export function parseScheme(text: string, overrides: SchemeOverrides = {}): QuantScheme {
  const match = PATTERN.exec(text.toLowerCase())
  if (!match)
    throw new QuantError('E_SCHEME', `"${text}" is not a scheme`, 'Write for example w4a16, w3a16 or w2a16g64.')
  const [bits, activationBits] = [Number(match[1]), Number(match[2])]
  if (bits < 2 || bits > 8) {
    throw new QuantError('E_SCHEME', `${bits}-bit weights cannot be made`, 'Weights can have 2 to 8 bits.')
  }
  const quantized = activationBits !== FLOAT_BITS
  if (quantized && (activationBits < 4 || activationBits > 8)) {
    throw new QuantError(
      'E_SCHEME',
      `${activationBits}-bit activations cannot be made`,
      `Activations can have 4 to 8 bits, or 16, which leaves them as they are: w${bits}a16.`,
    )
  }
  if (overrides.symmetricActivations && !quantized) {
    throw new QuantError(
      'E_SCHEME',
      'there are no quantized activations to be symmetric',
      `Say for example w${bits}a8.`,
    )
  }
  if (overrides.perChannel && overrides.group !== undefined) {
    throw new QuantError('E_SCHEME', '--group and --per-channel exclude each other', 'Give one of them.')
  }
  const usual = quantized ? undefined : DEFAULT_GROUP
  const asked = overrides.group ?? (match[3] === undefined ? usual : Number(match[3]))
  const group = overrides.perChannel ? undefined : asked
  if (group !== undefined && !GROUP_SIZES.includes(group)) {
    throw new QuantError(
      'E_SCHEME',
      `groups of ${group} weights cannot be stored`,
      `onnxruntime's MatMulNBits knows groups of ${GROUP_SIZES.join(', ')}; --per-channel shares one scale per output.`,
    )
  }
  const activations = { bits: activationBits, symmetric: overrides.symmetricActivations ?? false }
  return {
    weights: { bits, group, symmetric: overrides.symmetric ?? false },
    activations: quantized ? activations : undefined,
  }
}

/** "w4a16g128", "w3a16" (per channel), "w4a16g32sym", "w4a4", "w8a8-symact" (symmetric activations). */
export function schemeName({ weights, activations }: QuantScheme): string {
  const group = weights.group === undefined ? '' : `g${weights.group}`
  const symmetric = `${weights.symmetric ? 'sym' : ''}${activations?.symmetric ? '-symact' : ''}`
  return `w${weights.bits}a${activations?.bits ?? FLOAT_BITS}${group}${symmetric}`
}
