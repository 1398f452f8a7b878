/** @file Precision of every op in a float16 model: one row for each kind. Ops without a row compute in float32, between Casts. */

import type { Node } from '../../graph/ir.ts'
import { rowsFor } from '../../graph/ops.ts'

/**
 * Behaviour of an op.
 *
 * - `follows`: it computes in the type of what it reads: float16 as soon as one input is float16. It only moves or adds numbers.
 * - `scales`: like `follows`, but float32 where an input is float32 that was computed from activations. x / sqrt(mean(x^2)) is
 *   computed in float32 up to the end.
 * - `compares`: float32 where any input is float32.
 * - `product`: float16, unless it reads neither float16 nor activations (positions times frequencies).
 * - `float16`: a fused op with a float16 kernel, which itself sums in float32 where that is needed.
 * - `float32`: the result, or what lies on the way to it, needs the range or the digits of float32.
 */
export type Rule = 'follows' | 'scales' | 'compares' | 'product' | 'float16' | 'float32'

const rows = (rule: Rule, kinds: readonly string[]): Record<string, Rule> =>
  Object.fromEntries(kinds.map(kind => [kind, rule]))

const RULES: Readonly<Record<string, Rule>> = {
  ...rowsFor<Rule>(['identity', 'cast', 'unary', 'variadic', 'choice', 'view', 'repetition', 'movement'], 'follows'),
  ...rowsFor<Rule>(['comparison', 'predicate'], 'compares'),
  ...rows('follows', [
    'Add',
    'Compress',
    'Dropout',
    'OneHot',
    'ReduceMax',
    'ReduceMin',
    'ScatterElements',
    'ScatterND',
  ]),
  ...rows('follows', ['TopK', 'Trilu']),
  ...rows('scales', ['Div', 'Mul', 'Sub']),
  ...rows('product', ['Einsum', 'Gemm', 'MatMul', 'com.microsoft.FusedMatMul']),
  ...rows('float16', ['Attention', 'LayerNormalization', 'RMSNormalization', 'RotaryEmbedding']),
  ...rows('float16', ['SimplifiedLayerNormalization', 'com.microsoft.Attention', 'com.microsoft.BiasGelu']),
  ...rows('float16', ['com.microsoft.GroupQueryAttention', 'com.microsoft.MoE', 'com.microsoft.MultiHeadAttention']),
  ...rows('float16', ['com.microsoft.RotaryEmbedding', 'com.microsoft.SkipLayerNormalization']),
  ...rows('float16', ['com.microsoft.SkipSimplifiedLayerNormalization']),
  // Their results leave the range of float16, or lose digits that matter: positions, angles, squares.
  ...rows('float32', ['CastLike', 'Cos', 'Exp', 'Log', 'Mish', 'Reciprocal', 'Sin', 'Softplus', 'Sqrt']),
}

/** Rule of an op kind. */
export const ruleOf = (kind: string): Rule => (Object.hasOwn(RULES, kind) ? RULES[kind]! : 'float32')

/** Outputs that are float32 in float16 ops: mean and inverse deviation of norms. */
const STATISTICS: Readonly<Record<string, readonly number[]>> = {
  LayerNormalization: [1, 2],
  SimplifiedLayerNormalization: [1],
  'com.microsoft.SkipLayerNormalization': [1, 2],
  'com.microsoft.SkipSimplifiedLayerNormalization': [1, 2],
}

export const isStatistic = ({ kind }: Node, output: number): boolean => STATISTICS[kind]?.includes(output) ?? false

/** Outputs that are no floats, by op kind: all of them, or those listed. */
const OTHER_OUTPUTS: Readonly<Record<string, 'all' | readonly number[]>> = {
  ...rowsFor<'all'>(['comparison', 'predicate'], 'all'),
  ...Object.fromEntries(['ArgMax', 'ArgMin', 'NonZero', 'Shape', 'Size'].map(kind => [kind, 'all'] as const)),
  TopK: [1],
  Dropout: [1],
}

export function isOther({ kind }: Node, output: number): boolean {
  const others = OTHER_OUTPUTS[kind]
  return others === 'all' || (others?.includes(output) ?? false)
}

/** Ops that take floats of either type, because only shapes or integers come out of them. */
const TAKES_ANY: ReadonlySet<string> = new Set(['NonZero', 'Shape', 'Size'])

export const takesAny = ({ kind }: Node): boolean => TAKES_ANY.has(kind)

/** Ops that look up rows of a table: with computed indices they give activations, whatever the table is. */
const LOOKUPS: ReadonlySet<string> = new Set(['Gather', 'GatherElements', 'GatherND'])

export const isLookup = ({ kind }: Node): boolean => LOOKUPS.has(kind)
