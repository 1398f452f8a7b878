/** @file Chooses the bits of every weight from measured sensitivities. Pure: reads no files. */

import { QuantError } from '../../errors.ts'
import { option } from '../../option-mark.ts'
import type { Node } from '../../graph/ir.ts'
import { isFused } from '../plan/fused-experts.ts'
import type { Candidate, ChoiceLimit, Sensitivities } from '../terms/sensitivity.ts'
import type { PatternOverride } from '../terms/scheme.ts'
import type { CandidateLinear } from './candidates.ts'
import { cheapestWithin, type Option, type Picked, sizeRange, smallestBelow } from './pick-options.ts'

/** Chosen candidates, in the order of the linears. */
export interface Mix {
  readonly chosen: readonly Candidate[]
  /** Bytes of all chosen weights. */
  readonly weightBytes: number
  readonly predictedKl: number
}

/** Linears that get the same bits: one that is alone, those of one fused node, and those of one name, which an override cannot tell apart. */
function itemsOf(linears: readonly CandidateLinear[]): number[][] {
  const items = new Map<string | Node, number[]>()
  linears.forEach(({ linear }, i) => {
    const key = isFused(linear) ? linear.origin : linear.name
    items.set(key, [...(items.get(key) ?? []), i])
  })
  return [...items.values()]
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`

/** @throws E_LIMIT naming the least that can be had. */
function pick(options: readonly (readonly Option[])[], { maxSize, maxKl }: ChoiceLimit, fixedBytes: number): Picked {
  if (maxSize !== undefined) {
    const picked = cheapestWithin(options, maxSize - fixedBytes)
    if (picked) return picked
    const least = Math.ceil(fixedBytes + sizeRange(options).least)
    throw new QuantError(
      'E_LIMIT',
      `${option('maxSize')}: the smallest output of this model has ${megabytes(least)} (${least} bytes), more than ${megabytes(maxSize)}`,
      `Of these, ${megabytes(fixedBytes)} are not in the blocks: ${option('lmHead')}, ${option('embedding')} and ${option('float16')} make them smaller.`,
      { option: 'maxSize' },
    )
  }
  const picked = smallestBelow(options, maxKl!)
  if (picked) return picked
  const least = options.reduce((sum, each) => sum + Math.min(...each.map(({ cost }) => cost)), 0)
  throw new QuantError(
    'E_LIMIT',
    `${option('maxKl')}: the most exact mix is predicted to diverge by ${least.toPrecision(2)}, more than ${maxKl}`,
    `Allow more, or leave sensitive weights float with ${option('ignore')}.`,
    { option: 'maxKl' },
  )
}

/**
 * The mix of least predicted divergence within `maxSize`, or of least size within `maxKl`. The divergence of a mix is predicted as the sum
 * of what each weight leads to alone, times the share that learning leaves of it.
 * @param fixedBytes bytes of the output besides these weights. @param shareLeft share that learning leaves, by bits.
 * @throws E_LIMIT when no mix holds the limit.
 */
export function chooseMix(
  linears: readonly CandidateLinear[],
  { linears: measured }: Pick<Sensitivities, 'linears'>,
  limit: ChoiceLimit,
  fixedBytes: number,
  shareLeft: (bits: number) => number,
): Mix {
  const costOf = ({ kl, bits }: Candidate) => kl * shareLeft(bits)
  const items = itemsOf(linears)
  const choices = items.map(members => together(members.map(i => measured[i]!.candidates)))
  const options = choices.map(each =>
    each.map((members): Option => ({ size: sum(members, ({ sizeBytes }) => sizeBytes), cost: sum(members, costOf) })),
  )
  const { picks, size, cost } = pick(options, limit, fixedBytes)
  const chosen: Candidate[] = []
  items.forEach((members, j) =>
    members.forEach((i, member) => {
      chosen[i] = choices[j]![picks[j]!]![member]!
    }),
  )
  return { chosen, weightBytes: size, predictedKl: cost }
}

const sum = <T>(values: readonly T[], of: (value: T) => number): number =>
  values.reduce((total, value) => total + of(value), 0)

/** Choices of linears that get the same bits, one candidate for each linear. Of several groups they take the narrowest. */
function together(members: readonly (readonly Candidate[])[]): (readonly Candidate[])[] {
  const [first, ...others] = members as [readonly Candidate[], ...(readonly Candidate[])[]]
  if (others.length === 0) return first.map(candidate => [candidate])
  return [...new Set(first.map(({ bits }) => bits))].flatMap(bits => {
    const same = members.map(candidates => candidates.findLast(each => each.bits === bits))
    return same.every(candidate => candidate !== undefined) ? [same] : []
  })
}

/** The mix as exceptions by name. A name that is a part of another one comes before it, as the last that matches counts. */
export const overridesOf = (linears: readonly CandidateLinear[], { chosen }: Mix): PatternOverride[] =>
  linears
    .map(({ linear: { name } }, i): PatternOverride => {
      const { bits, group, symmetric } = chosen[i]!
      return { pattern: name, bits, group, symmetric }
    })
    .sort((a, b) => a.pattern.length - b.pattern.length)
