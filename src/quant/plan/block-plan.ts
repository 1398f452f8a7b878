/** @file Result of the plan stage: how each linear is quantized, what is transformed, where activations are quantized. */

import type { DType } from '../../graph/dtype.ts'
import type { Node, Value } from '../../graph/ir.ts'
import type { Refused } from '../../graph/refusal.ts'
import type { Layout } from '../../kernels/pack/layouts.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Block } from '../find/blocks.ts'
import type { Leaving } from '../find/leaving.ts'
import type { Linear } from '../find/linears.ts'
import type { Format, LearningOptions } from '../terms/options.ts'
import type { QuantScheme } from '../terms/scheme.ts'
import type { ActivationSite } from './activation-sites.ts'
import { isFused } from './fused-experts.ts'
import type { Mapping } from './mappings/mapping.ts'
import { sameSite, type Site } from './site.ts'
import type { WeightSchemeOf } from './weight-rules.ts'

/** Places in the other branch that a plan changes too. */
export interface OtherPlaces {
  /** For each linear of the block: nodes that get the same packed weight. */
  readonly linears: readonly (readonly Node[])[]
  /** For each of plan.changedSites: where the same constant is. */
  readonly sites: readonly ChangedSite[]
  /** For each of plan.activationSites that has a value of the user's graph: the same value. */
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

/** A gain or a bias of a norm, and the linears that read what it makes. */
export interface NormConstant {
  readonly site: Site
  readonly readers: readonly Linear[]
}

export interface BlockPlan {
  readonly block: Block
  readonly format: Format
  /** Quantizers of linears, in the order of `block.linears`. Linears without one stay float. */
  readonly quantizers: ReadonlyMap<Linear, WeightQuantizer>
  /** Linears inside a fused node -> the block_size all of that node's weights have. */
  readonly blockSizes: ReadonlyMap<Linear, number>
  /** Linears that were to be quantized and stay float, because their fused node cannot be quantized as a whole. */
  readonly unquantizable: ReadonlySet<Linear>
  /** Values that are quantized before they are read; none where activations stay as they are. */
  readonly activationSites: readonly ActivationSite[]
  /** Transformations to learn. */
  readonly mappings: readonly Mapping[]
  /** Transformations that cannot be made, by name. */
  readonly skippedMappings: readonly Refused[]
  /** Biases of linears, where they have one. */
  readonly biases: ReadonlyMap<Linear, Site>
  /** Gains and biases of norms that are learned; none where they stay. */
  readonly gains: readonly NormConstant[]
  /** Gains and biases that mappings or learning change, in a fixed order. */
  readonly changedSites: readonly ChangedSite[]
  /** Linears that get a bias they did not have, because what they read is shifted. */
  readonly addedBiases: readonly Linear[]
  /** In merged files: the same places in the other branch. */
  readonly otherBranch?: OtherPlaces | undefined
  /** Notes for the user. */
  readonly notes: readonly string[]
}

export interface PlanOptions {
  readonly scheme: QuantScheme
  /** Default: 'integer'. */
  readonly format?: Format | undefined
  /** MatMulNBits' accuracy_level where the scheme leaves activations as they are; 0 when absent. */
  readonly accuracyLevel?: 0 | 4 | undefined
  /** Equivalent transformations to learn: all, those behind norms, all with matrices before linears, or none. */
  readonly let: LearningOptions['let']
  /** Learn the gains of norms. Default: no. */
  readonly gains?: boolean | undefined
  /** Scheme of each weight, where the rules have exceptions; by default the scheme of all weights. */
  readonly weightSchemeOf?: WeightSchemeOf | undefined
  /** User's value -> value of the working copy (Analysis.values). */
  readonly values: ReadonlyMap<Value, Value>
  /** Values that are outputs of the user's graph as well; absent: there are none but the logits. */
  readonly leaving?: Leaving | undefined
  /** Chooses among the mappings that were found; by default all of them. */
  readonly select?: ((mappings: readonly Mapping[]) => readonly Mapping[]) | undefined
}

/** Site of the value that a linear reads, where nodes of the exported graph quantize it. */
export const inputSite = ({ activationSites }: BlockPlan, { node }: Linear): ActivationSite | undefined =>
  activationSites.find(({ by, readers }) => by === 'graph' && readers.some(each => sameSite(each, { node, input: 0 })))

/**
 * Layout of a linear's weight. Products of integers need one scale per output; with groups MatMulNBits dequantizes the weight.
 * Fused nodes have MatMulNBits' layout.
 */
export function layoutOf(plan: BlockPlan, linear: Linear, { group }: WeightQuantizer): Layout {
  if (isFused(linear)) return 'nbits'
  if (plan.format === 'qdq') return 'dequantize'
  return inputSite(plan, linear) !== undefined && group >= linear.inFeatures ? 'planes' : 'nbits'
}
