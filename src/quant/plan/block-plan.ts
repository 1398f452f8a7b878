/** @file Result of the plan stage: how each linear is quantized, what is transformed, where activations are quantized. */

import type { DType } from '../../graph/dtype.ts'
import type { Node, Value } from '../../graph/ir.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Block } from '../find/blocks.ts'
import type { Leaving } from '../find/leaving.ts'
import type { Linear } from '../find/linears.ts'
import type { QuantScheme } from '../terms/scheme.ts'
import type { QuantizedActivations } from './activation-sites.ts'
import { isFused } from './fused-experts.ts'
import type { Mapping, SkippedMapping } from './mappings/mapping.ts'
import type { Site } from './site.ts'
import type { WeightSchemeOf } from './weight-rules.ts'

/** What the other branch has at the places a plan changes. */
export interface Twins {
  /** For each linear of the block: nodes that get the same packed weight. */
  readonly linears: readonly (readonly Node[])[]
  /** For each of plan.changedSites: where the same constant is. */
  readonly sites: readonly ChangedSite[]
  /** For each of plan.activations.sites that has a value of the user's graph: the same value. */
  readonly values: readonly Value[]
}

/** A constant that transformations change, in the working copy and in the user's graph. */
export interface ChangedSite {
  readonly site: Site
  /** The user's node, and which of its inputs the constant is. */
  readonly node: Node
  readonly input: number
  /** The type it is stored in. */
  readonly dtype: DType
}

export interface BlockPlan {
  readonly block: Block
  /** How linears are quantized, in the order of `block.linears`; those that are not in it stay float. */
  readonly quantizers: ReadonlyMap<Linear, WeightQuantizer>
  /** Linears inside a fused node -> the block_size all of that node's weights have. */
  readonly blockSizes: ReadonlyMap<Linear, number>
  /** Linears that were to be quantized and stay float, because the fused node they are in cannot hold all that was wanted. */
  readonly heldFloat: ReadonlySet<Linear>
  /** Undefined: activations stay as they are. */
  readonly activations: QuantizedActivations | undefined
  /** Transformations to learn. */
  readonly mappings: readonly Mapping[]
  /** Transformations that cannot be made, and why. */
  readonly skippedMappings: readonly SkippedMapping[]
  /** Biases of linears, where they have one. */
  readonly biases: ReadonlyMap<Linear, Site>
  /** Gains and biases that the mappings change, in a fixed order. */
  readonly changedSites: readonly ChangedSite[]
  /** Linears that get a bias they did not have, because what they read is shifted. */
  readonly addedBiases: readonly Linear[]
  /** In merged files: the same places in the other branch. */
  readonly twins?: Twins | undefined
  /** Things worth telling the user. */
  readonly notes: readonly string[]
}

export interface PlanOptions {
  readonly scheme: QuantScheme
  /** Learn equivalent transformations. */
  readonly let: boolean
  /** How each weight is quantized, where the rules have exceptions; by default all of them as the scheme says. */
  readonly weightSchemeOf?: WeightSchemeOf | undefined
  /** User's value -> value of the working copy (Analysis.values). */
  readonly values: ReadonlyMap<Value, Value>
  /** Values that are outputs of the user's graph as well; absent: there are none but the logits. */
  readonly leaving?: Leaving | undefined
  /** Chooses among the mappings that were found; by default all of them. */
  readonly select?: ((mappings: readonly Mapping[]) => readonly Mapping[]) | undefined
}

/** Whether a linear is multiplied with integers: that needs one scale per output; with groups MatMulNBits dequantizes the weight. */
export const isInPlanes = ({ activations }: BlockPlan, linear: Linear, { group }: WeightQuantizer): boolean =>
  activations !== undefined && group >= linear.inFeatures && !isFused(linear)
