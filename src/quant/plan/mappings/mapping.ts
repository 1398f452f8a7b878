/** @file Mapping as a type: the constants that an equivalent transformation divides and multiplies by its scales. */

import type { Linear } from '../../find/linears.ts'
import type { Site } from '../site.ts'

/** One side of a mapping: an axis of a constant; element i belongs to scale `scales[i]` of the mapping, or to none where it is -1. */
export type End =
  /** [K]: input channels of a linear. */
  | { readonly kind: 'rows'; readonly linear: Linear; readonly scales: Int32Array }
  /** [N]: outputs of a linear. */
  | { readonly kind: 'columns'; readonly linear: Linear; readonly scales: Int32Array }
  /** A gain, a bias or a weight that stays float, elements in flat order. */
  | { readonly kind: 'vector'; readonly site: Site; readonly scales: Int32Array }

/** Constants that scales, all of them positive, may move between without changing what the block computes. */
export interface Mapping {
  readonly kind: 'norm' | 'value' | 'up-down' | 'query-key'
  /** For people: "input_layernorm -> q_proj, k_proj, v_proj". */
  readonly name: string
  /** Number of scales that are learned. */
  readonly size: number
  /** The smooth side: constants that are divided by their scale. */
  readonly divided: readonly End[]
  /** The balance side: constants that are multiplied by it, so that the block computes the same. */
  readonly multiplied: readonly End[]
  /**
   * The bias a per-scale shift can be subtracted from before the division (a member of `divided`); the linears of `multiplied` get
   * shift @ W added to their outputs in return.
   */
  readonly shift: Site | undefined
  /** Outputs of the user's graph, besides the logits, whose numbers it changes; of fused nodes, those it may change. */
  readonly outputs: readonly string[]
}

type Rows = End & { readonly kind: 'rows' }

/** The linears that read what a mapping divides. */
export const rowsOf = ({ multiplied }: Mapping): Rows[] => multiplied.filter((end): end is Rows => end.kind === 'rows')

/** Linears whose weight a mapping changes. */
export const linearsOf = ({ divided, multiplied }: Mapping): Linear[] =>
  [...divided, ...multiplied].flatMap(end => (end.kind === 'vector' ? [] : [end.linear]))
