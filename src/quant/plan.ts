/** @file What is to be done to a block: how each linear is quantized, what is transformed, where activations are quantized. */

import type { DType } from '../graph/dtype.ts'
import type { Node, Value } from '../graph/ir.ts'
import type { WeightQuantizer } from '../kernels/qparams.ts'
import { findActivationSites } from './activations.ts'
import type { Block } from './blocks.ts'
import type { Twins } from './branches.ts'
import type { QuantizedActivations } from './emit-block.ts'
import { isFused, planFused } from './fused-experts.ts'
import { hasNBitsKernel } from './export/products.ts'
import { floatTypeOf } from './export/writer.ts'
import type { Leaving } from './leaving.ts'
import type { Linear } from './linears.ts'
import {
  biasSite,
  findMappings,
  linearsOf,
  type Mapping,
  rowsOf,
  sameSite,
  type Site,
  type SkippedMapping,
} from './mappings/mappings.ts'
import { type QuantScheme, weightOverrideName, type WeightScheme } from './scheme.ts'
import type { WeightSchemeOf } from './weight-rules.ts'

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

/** Scales are stored in the type that the product is computed in: that of the weight where it is read, perhaps behind a Cast. */
const scaleDtypeOf = ({ origin }: Linear): WeightQuantizer['scaleDtype'] =>
  floatTypeOf(origin.inputs[1]!) === 'float16' ? 'float16' : 'float32'

function weightQuantizers(
  { linears }: Block,
  { activations }: QuantScheme,
  schemeOf: WeightSchemeOf,
): Map<Linear, WeightQuantizer> {
  return new Map(
    linears.flatMap((linear): [Linear, WeightQuantizer][] => {
      const weights = schemeOf(linear)
      if (!weights) return []
      const { bits, group, symmetric } = weights
      // Integer linears compute in float32, whatever the model's type is.
      const scaleDtype = activations && group === undefined ? 'float32' : scaleDtypeOf(linear)
      return [[linear, { bits, group: group ?? linear.inFeatures, symmetric, scaleDtype }]]
    }),
  )
}

/** Where the user's graph reads the constant; undefined when it is made of others inside a fused node. */
function userSite(site: Site, values: ReadonlyMap<Value, Value>): ChangedSite | undefined {
  const node = site.node.origin
  const constant = site.node.inputs[site.input]!
  const input = node?.inputs.findIndex(value => value && values.get(value) === constant) ?? -1
  if (!node || input < 0) return undefined
  const { dtype } = node.inputs[input]!
  return { site, node, input, dtype: dtype ?? 'float32' }
}

/** All places whose constants a mapping changes. */
function sitesOf(mapping: Mapping, biases: ReadonlyMap<Linear, Site>): Site[] {
  const { divided, multiplied, shift } = mapping
  const vectors = [...divided, ...multiplied].flatMap(end => (end.kind === 'vector' ? [end.site] : []))
  const readers = shift ? rowsOf(mapping).map(({ linear }) => biases.get(linear)) : []
  return [...vectors, ...readers.filter(site => site !== undefined)]
}

/** How a block will be quantized. */
export function planBlock(block: Block, options: PlanOptions): BlockPlan {
  const { scheme, values, weightSchemeOf = () => scheme.weights, select = mappings => mappings } = options
  const wanted = weightQuantizers(block, scheme, weightSchemeOf)
  const fused = planFused(block.linears, wanted)
  const quantizers = new Map([...wanted].filter(([linear]) => !fused.float.has(linear)))
  // A block that stays float altogether reads float activations, in its attention as well.
  const attention =
    scheme.activations && quantizers.size > 0
      ? findActivationSites({ ...block, linears: [...quantizers.keys()].filter(linear => !isFused(linear)) }, values)
      : undefined
  const found = options.let ? findMappings(block, options.leaving) : { mappings: [], skipped: [] }
  const biases = new Map(
    block.linears.flatMap(linear => {
      const site = biasSite(linear, block)
      return site ? [[linear, site] as const] : []
    }),
  )
  const mappings: Mapping[] = []
  const skipped: SkippedMapping[] = [...found.skipped]
  const changedSites: ChangedSite[] = []
  for (const mapping of select(found.mappings)) {
    const float = linearsOf(mapping).find(linear => !quantizers.has(linear))
    if (float) {
      skipped.push({ name: mapping.name, reason: `${float.name} stays float` })
      continue
    }
    // A shift only moves the middle of a range, which weights alone do not have: it is for quantized activations.
    // Nothing can be added behind a product inside a fused node.
    const canShift = scheme.activations && !rowsOf(mapping).some(({ linear }) => isFused(linear))
    const made = canShift ? mapping : { ...mapping, shift: undefined }
    const sites = sitesOf(made, biases).map(site => userSite(site, values))
    if (sites.includes(undefined)) {
      skipped.push({ name: mapping.name, reason: 'a constant it changes is not stored as such in the file' })
      continue
    }
    mappings.push(made)
    for (const changed of sites as ChangedSite[])
      if (!changedSites.some(({ site }) => sameSite(site, changed.site))) changedSites.push(changed)
  }
  const shifted = mappings.filter(({ shift }) => shift).flatMap(rowsOf)
  const readers = new Set(shifted.map(({ linear }) => linear))
  return {
    block,
    quantizers,
    blockSizes: fused.blockSizes,
    heldFloat: new Set([...fused.float].filter(linear => wanted.has(linear))),
    activations: attention && { quantizer: scheme.activations!, sites: attention.sites },
    mappings,
    skippedMappings: skipped,
    biases,
    changedSites,
    addedBiases: block.linears.filter(linear => readers.has(linear) && !biases.has(linear)),
    notes: [
      ...(attention?.note ? [attention.note] : []),
      ...fused.notes,
      ...(scheme.activations && fused.blockSizes.size > 0
        ? ['experts inside MoE nodes read float activations: QMoE quantizes weights only']
        : []),
      ...typeNotes([...quantizers.keys()]),
    ],
  }
}

/** What becomes of types that quantized products have no CPU kernel for. */
function typeNotes(linears: readonly Linear[]): string[] {
  const types = new Set(linears.map(({ origin }) => floatTypeOf(origin.inputs[1]!)))
  return [...types]
    .filter(dtype => !hasNBitsKernel(dtype))
    .map(dtype => `quantized linears compute in float32, between casts from ${dtype} and back to it`)
}

/** A line for each scheme that overrides gave to some weights. */
export function overrideNotes(plans: readonly BlockPlan[], { bits, group, symmetric }: WeightScheme): string[] {
  const others = new Map<string, number>()
  for (const [{ inFeatures }, quantizer] of plans.flatMap(({ quantizers }) => [...quantizers])) {
    const own = { ...quantizer, group: quantizer.group === inFeatures ? undefined : quantizer.group }
    const usual = { bits, group: group === inFeatures ? undefined : group, symmetric }
    const name = weightOverrideName(own)
    if (name !== weightOverrideName(usual)) others.set(name, (others.get(name) ?? 0) + 1)
  }
  return [...others].map(([name, count]) => `${count} ${count === 1 ? 'weight is' : 'weights are'} ${name}`)
}

/** A line for each group that is wider than some weights: those have one scale per output. */
export function groupNotes(plans: readonly BlockPlan[]): string[] {
  const narrow = new Map<number, Set<number>>()
  for (const [{ inFeatures }, { group }] of plans.flatMap(({ quantizers }) => [...quantizers]))
    if (group > inFeatures) narrow.set(group, (narrow.get(group) ?? new Set<number>()).add(inFeatures))
  return [...narrow].map(
    ([group, inputs]) =>
      `groups of ${group} are wider than inputs of ${[...inputs].join(', ')}: those weights have one scale per output`,
  )
}
