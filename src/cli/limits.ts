/** @file Limits of `evaluate`, which make it fail: a row for each. Knows no flag. */

import { QuantError, usageError } from '../errors.ts'
import { option } from '../option-mark.ts'
import type { Compared, EvaluateReport } from '../quant/evaluate.ts'
import { POSITIVE, type Rule, SHARE } from '../quant/terms/check-options.ts'

/** Limits that were asked for. */
export interface Limits {
  readonly maxPerplexity?: number
  /** Bound of perplexity / perplexity of the reference. */
  readonly maxRatio?: number
  /** Bound of the mean KL divergence from the reference. */
  readonly maxKl?: number
  /** Least share of positions with the same likeliest token. */
  readonly minAgreement?: number
}

interface LimitRow {
  readonly rule: Rule
  /** Figure that is limited. */
  readonly name: string
  readonly value: (model: Compared) => number | undefined
  readonly digits: number
  /** Bound from above, or from below. */
  readonly side: 'above' | 'below'
  /** True for figures that are measured against a reference. */
  readonly compares: boolean
}

const NOT_NEGATIVE: Rule = {
  holds: value => typeof value === 'number' && Number.isFinite(value) && value >= 0,
  says: 'takes a number from 0 up',
}

const ROWS: { readonly [Key in keyof Required<Limits>]: LimitRow } = {
  maxPerplexity: {
    rule: POSITIVE,
    name: 'perplexity',
    value: ({ perplexity }) => perplexity,
    digits: 3,
    side: 'above',
    compares: false,
  },
  maxRatio: {
    rule: POSITIVE,
    name: 'ratio of perplexities',
    value: ({ ratio }) => ratio,
    digits: 4,
    side: 'above',
    compares: true,
  },
  maxKl: {
    rule: NOT_NEGATIVE,
    name: 'mean KL divergence',
    value: ({ divergence }) => divergence?.klMean,
    digits: 6,
    side: 'above',
    compares: true,
  },
  minAgreement: {
    rule: SHARE,
    name: 'share of same likeliest tokens',
    value: ({ divergence }) => divergence?.sameTop,
    digits: 4,
    side: 'below',
    compares: true,
  },
}

export const LIMIT_KEYS: readonly string[] = Object.keys(ROWS)

/** Limits with their rows, those that were asked for. */
const asked = (limits: Limits): (readonly [LimitRow, number, string])[] =>
  Object.entries(limits).map(([key, limit]) => [ROWS[key as keyof Limits], limit as number, key] as const)

/** Refuses limits that cannot be, or that nothing is measured for. @throws E_USAGE */
export function checkLimits(limits: Limits, hasReference: boolean): void {
  for (const [{ rule, compares }, limit, key] of asked(limits)) {
    if (!rule.holds(limit)) throw usageError(`${option(key)} ${rule.says}, not "${String(limit)}"`, undefined, key)
    if (compares && !hasReference)
      throw usageError(`${option(key)} is for a comparison`, `Give ${option('against', 'MODEL')} too.`, key)
  }
}

/** The error about all limits that models pass; undefined where none does. A figure that is not a number passes every limit. */
export function passedLimits(report: EvaluateReport, limits: Limits): QuantError | undefined {
  const passed = [report, ...(report.others ?? [])].flatMap(model =>
    asked(limits).flatMap(([{ name, value, digits, side }, limit]) => {
      const measured = value(model) ?? NaN
      if (side === 'above' ? measured <= limit : measured >= limit) return []
      return [`the ${name} of ${model.model} is ${measured.toFixed(digits)}, ${side} the limit of ${limit}`]
    }),
  )
  return passed.length === 0 ? undefined : new QuantError('E_LIMIT', passed.join('; '))
}
