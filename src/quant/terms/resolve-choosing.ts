/** @file Resolves the options that let a run choose the bits of each weight: a limit, and the candidates that the target can hold. */

import { usageError } from '../../errors.ts'
import { dequantizeBits } from '../../kernels/pack/dequantize-linear.ts'
import { option } from '../../option-mark.ts'
import { kernelOf } from './choose-kernel.ts'
import type { Choosing, ExportOptions, QuantizeOptions } from './options.ts'
import type { WeightScheme } from './scheme.ts'
import { DEFAULT_TARGET, type StoredBits, TARGETS } from './targets.ts'

const WIDTHS: readonly StoredBits[] = [2, 4, 8]

/** Groups beside the target's own: as many times as wide. Wider ones are smaller, and no slower where the kernel is the same. */
const WIDER = [2, 4]

/** Most weights of a group that is wider than the target's own: MatMulNBits at accuracy level 4 has no wider blocks for 2 bits. */
const MAX_GROUP = 128

/** Scheme that the choice begins with: activations stay float, and what depends on bits is decided as for 4. */
export const BASE_SCHEME = 'w4a16'

/** Options that say what the choice is to find out, or what it cannot do. */
const EXCLUDED = ['scheme', 'bits', 'activationBits', 'staticActivations'] as const

/**
 * The limit that bits are chosen for; undefined where the run does not choose.
 * @throws E_USAGE for options that contradict a choice, or make no sense without one.
 */
export function resolveLimit(given: QuantizeOptions): Pick<Choosing, 'maxSize' | 'maxKl'> | undefined {
  const { maxSize, maxKl } = given
  if (maxSize === undefined && maxKl === undefined) {
    const idle = (['sensitivity', 'dryRun'] as const).find(key => given[key])
    if (idle === undefined) return undefined
    throw usageError(
      `${option(idle)} is for runs that choose bits`,
      `Say ${option('maxSize', '900MB')} or ${option('maxKl', 0.02)} too.`,
      idle,
    )
  }
  if (maxSize !== undefined && maxKl !== undefined)
    throw usageError(
      `${option('maxSize')} and ${option('maxKl')} exclude each other`,
      'Give the one that must hold: the other is made as small as it can be.',
      'maxKl',
    )
  const limit = option(maxSize === undefined ? 'maxKl' : 'maxSize')
  const said = EXCLUDED.find(key => given[key] !== undefined && given[key] !== false)
  if (said !== undefined)
    throw usageError(
      `${limit} chooses the bits of weights and leaves activations float: it excludes ${option(said)}`,
      `Leave out ${option(said)}. ${option('group')}, ${option('perChannel')}, ${option('symmetric')} and ${option('overrides')} are possible.`,
      said,
    )
  if (given.params !== undefined)
    throw usageError(
      `${limit} and ${option('params')} exclude each other`,
      `Parameters belong to one mix of bits: the report of the run that learned them has it as ${option('overrides')}.`,
      'params',
    )
  return { maxSize, maxKl }
}

/** Kernel that would run a weight of this scheme. */
const kernelName = (
  given: QuantizeOptions,
  { format, accuracyLevel }: ExportOptions,
  { bits, group, symmetric }: WeightScheme,
): string =>
  kernelOf(given.target ?? DEFAULT_TARGET, {
    op: format === 'qdq' ? 'qdq' : 'MatMulNBits',
    K: undefined,
    N: undefined,
    bits: bits as StoredBits,
    block: group,
    zeroPoints: symmetric ? 'none' : 'integer',
    level: accuracyLevel,
    dtype: 'float32',
    bias: false,
  }).name

/**
 * Schemes that a weight may get, from the fewest bits and the widest group up: 2, 4 and 8 bits as far as the form stores them and the
 * target has a kernel. Groups are those asked for, else the target's own and wider ones that the same kernel takes.
 */
export function candidateSchemes(given: QuantizeOptions, form: ExportOptions): WeightScheme[] {
  const { weights } = TARGETS[given.target ?? DEFAULT_TARGET]
  return WIDTHS.filter(bits => form.format !== 'qdq' || dequantizeBits(bits) === bits).flatMap(bits => {
    const usual = weights[bits]
    const symmetric = given.symmetric ?? usual.symmetric
    const own: WeightScheme = { bits, symmetric, group: given.perChannel ? undefined : (given.group ?? usual.group) }
    const kernel = kernelName(given, form, own)
    if (kernel === 'none') return []
    if (given.perChannel || given.group !== undefined || own.group === undefined) return [own]
    const wider = WIDER.map(times => ({ ...own, group: own.group! * times }))
    return [own, ...wider.filter(each => each.group <= MAX_GROUP && kernelName(given, form, each) === kernel)].reverse()
  })
}
