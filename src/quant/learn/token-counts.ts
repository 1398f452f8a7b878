/** @file Counts of the tokens each expert sees, and which experts see too few to be learned. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import { staticShape } from '../../graph/shape.ts'
import type { Expert } from '../find/experts.ts'
import type { Linear } from '../find/linears.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { FewTokens } from '../terms/report.ts'
import type { Observer, SampleValues } from './observer.ts'

/** Emits the number of tokens that are sent to the expert. */
function emitTokenCount(g: Builder, { gates }: Expert, { value: valueOf }: SampleValues): Value {
  const flags = gates.map(({ value, inverted }) => {
    const gate = valueOf(value)
    const zero = g.op('Equal', [g.cast(gate, 'float32'), g.scalar(0)])
    const sent = g.cast(inverted ? zero : g.op('Not', [zero]), 'float32')
    const rank = staticShape(gate).length
    return staticShape(gate).at(-1) === 1 ? sent : g.op('ReduceMax', [sent, g.ints([rank - 1])], { keepdims: 1 })
  })
  const all = flags.reduce((a, b) => g.mul(a, b))
  return g.op('ReduceSum', [all], { keepdims: 0 })
}

/** Counts the tokens of every expert over all samples. */
export class TokenCounts {
  readonly experts: readonly Expert[]
  readonly tokens: number[]

  constructor(experts: readonly Expert[]) {
    this.experts = experts
    this.tokens = experts.map(() => 0)
  }

  /** Observers of a forward run, which fill in the counts. */
  get observers(): Observer[] {
    return this.experts.map((expert, j) => ({
      shape: [],
      over: 'sum',
      emit: (g, sample) => emitTokenCount(g, expert, sample),
      take: ([tokens]) => void (this.tokens[j] = tokens!),
    }))
  }
}

/** Fewest tokens to learn an expert from. */
const LEAST_TOKENS = 16

/**
 * Tokens needed to learn a linear. Each token gives one equation for every output, and every output has two clip ratios per group.
 */
const tokensNeeded = ({ inFeatures }: Linear, group: number): number =>
  Math.max(LEAST_TOKENS, 2 * Math.ceil(inFeatures / group))

/** Experts with too few tokens to be learned, and their linears. */
export function rarelyUsed(
  { quantizers }: BlockPlan,
  { experts, tokens }: TokenCounts,
): { readonly few: FewTokens | undefined; readonly linears: ReadonlySet<Linear> } {
  const needs = experts.map(({ linears }) =>
    Math.max(0, ...linears.map(linear => tokensNeeded(linear, quantizers.get(linear)?.group ?? linear.inFeatures))),
  )
  const rare = experts.flatMap((_, j) => (tokens[j]! < needs[j]! ? [j] : []))
  return {
    few: rare.length === 0 ? undefined : { experts: rare, needed: Math.max(...rare.map(j => needs[j]!)) },
    linears: new Set(rare.flatMap(j => experts[j]!.linears)),
  }
}
