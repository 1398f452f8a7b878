/** @file Ops that are known and not supported, so that a refusal says what they are instead of that a rule is missing. */

import { declined, type Rewrite } from './rewrite.ts'

const refuse =
  (what: string): Rewrite =>
  (_g, node) => {
    throw declined(node, what)
  }

const STATE = refuse('a layer that keeps a state other than keys and values')

/** One row per op kind. */
export const REFUSED_REWRITES: Readonly<Record<string, Rewrite>> = {
  'com.microsoft.QMoE': refuse('a mixture of quantized experts'),
  'com.microsoft.LinearAttention': STATE,
  'com.microsoft.CausalConvWithState': STATE,
  'com.microsoft.SparseAttention': refuse('sparse attention'),
  'com.microsoft.PagedAttention': refuse('a paged cache'),
  'com.microsoft.EmbedLayerNormalization': refuse('an embedding of an encoder'),
}
