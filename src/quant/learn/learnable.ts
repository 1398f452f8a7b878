/** @file Learnable: one way to learn something about a block. The same `apply` writes the training program and the fold programs. */

import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/ir.ts'
import type { Extremes } from '../../kernels/extremes.ts'
import type { ClipRatios } from '../../kernels/qparams.ts'
import type { Tensors } from '../../kernels/session.ts'
import type { ActivationRange } from '../../kernels/static-range.ts'
import type { EmittedRatios } from '../../kernels/weights.ts'
import type { Linear } from '../find/linears.ts'
import type { ActivationSite } from '../plan/activation-sites.ts'
import type { BlockPlan } from '../plan/block-plan.ts'
import type { SiteConstants } from '../plan/site-constants.ts'
import type { Method } from '../terms/options.ts'
import type { ChannelRanges } from './channel-ranges.ts'
import type { Changes, Weights } from './emit-block.ts'
import type { Parameter } from './parameters.ts'

/** Constants of a block as values of a program, before anything is quantized or rounded to its stored type. */
export interface BlockConstants extends Changes {
  /** [K, N], of every linear of the block. */
  readonly weights: Weights
  /** Ratios in [0, 1] of the range a weight is quantized over; a linear without an entry uses the whole range. */
  readonly clipRatios: ReadonlyMap<Linear, EmittedRatios>
  /** Steps added to each weight before it is rounded, [K, N]; a linear without an entry is rounded to nearest. */
  readonly roundingOffsets: ReadonlyMap<Linear, Value>
  /** Fixed ranges of activations, [] each; none before they are known. */
  readonly ranges: ReadonlyMap<ActivationSite, Extremes>
  /** Other numbers of sites of activations; none before they are learned. */
  readonly siteConstants: ReadonlyMap<ActivationSite, SiteConstants<Value>>
}

/** Ranges of activations as they were observed. */
export type SiteRanges = ReadonlyMap<ActivationSite, ActivationRange>

/** Facts that learning a block starts from. */
export interface LearningStart {
  readonly method: Method
  /** Linears that learn nothing and are rounded to nearest. */
  readonly frozen: ReadonlySet<Linear>
  /** Activations of the float block, for the values that some learnable observes. */
  readonly ranges: ChannelRanges
  /** Weights of the block as run inputs, float32 [K, N]. */
  readonly weights: Tensors
  /** Ranges of the sites that have a fixed one. */
  readonly siteRanges?: SiteRanges | undefined
  /** Sites whose matrix is learned; the others keep the identity. Absent: none. */
  readonly matrices?: ReadonlySet<ActivationSite> | undefined
  /** Ratios that clipping starts from; a linear without an entry starts with its whole range. */
  readonly clips?: ReadonlyMap<Linear, ClipRatios> | undefined
}

export interface Learnable {
  /** Key in the metadata of saved parameters; it never changes. */
  readonly name: string
  /** True where the blocks of a run have these parameters. */
  readonly enabled: (method: Method) => boolean
  /** True where a run that has them learns them; otherwise they stay as they start. Absent: always. */
  readonly learned?: (method: Method) => boolean
  /** True where a run solves for the parameters after training, which leaves them alone. Absent: never. */
  readonly solved?: (method: Method) => boolean
  /** True for parameters that a block which is rounded to nearest has too. */
  readonly always?: true
  /** Values of the float block whose channel ranges are measured before `parameters` is called. */
  readonly observes?: (plan: BlockPlan) => readonly Value[]
  /** Parameters in a fixed order. Saved files hold them under these names, unique among all learnables. */
  readonly parameters: (plan: BlockPlan, start: LearningStart) => readonly Parameter[]
  /**
   * Applies the parameters to the constants that the learnables before it made.
   * @param values of all parameters by name. Constants whose parameters are not among them stay as they are.
   */
  readonly apply: (
    g: Builder,
    plan: BlockPlan,
    constants: BlockConstants,
    values: ReadonlyMap<string, Value>,
  ) => BlockConstants
}
