/** @file Ops that are known and not supported, so that a refusal says what they are instead of that a rule is missing. */

import { declined, type Rewrite } from './rewrite.ts'

const refuse =
  (what: string): Rewrite =>
  (_g, node) => {
    throw declined(node, what)
  }

const EXPERTS = refuse('a mixture of experts in one node')
const STATE = refuse('a layer that keeps a state other than keys and values')

/** One row per op kind. */
export const REFUSED_REWRITES: Readonly<Record<string, Rewrite>> = {
  'com.microsoft.MoE': EXPERTS,
  'com.microsoft.QMoE': EXPERTS,
  // The experts of optimum's files run on the tokens routed to them: how many there are is known at run time only.
  NonZero: refuse('a shape that depends on data, as in a mixture of experts,'),
  'com.microsoft.LinearAttention': STATE,
  'com.microsoft.CausalConvWithState': STATE,
  'com.microsoft.SparseAttention': refuse('sparse attention'),
  'com.microsoft.PagedAttention': refuse('a paged cache'),
  'com.microsoft.EmbedLayerNormalization': refuse('an embedding of an encoder'),
}
