/** @file What is to be done to a block: how each linear is quantized, what is transformed, where activations are quantized. */

import type { DType } from '../graph/dtype.ts'
import type { Node, Value } from '../graph/ir.ts'
import type { WeightQuantizer } from '../kernels/qparams.ts'
import { findActivationSites } from './activations.ts'
import type { Block } from './blocks.ts'
import type { QuantizedActivations } from './emit-block.ts'
import type { Linear } from './linears.ts'
import { biasSite, findMappings, type Mapping, type Site, type SkippedMapping } from './mappings/mappings.ts'
import type { QuantScheme } from './scheme.ts'

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
  /** How each linear is quantized, in the order of `block.linears`. */
  readonly quantizers: ReadonlyMap<Linear, WeightQuantizer>
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
  /** Things worth telling the user. */
  readonly notes: readonly string[]
}

export interface PlanOptions {
  readonly scheme: QuantScheme
  /** Learn equivalent transformations. */
  readonly let: boolean
  /** User's value -> value of the working copy (Analysis.values). */
  readonly values: ReadonlyMap<Value, Value>
  /** Chooses among the mappings that were found; by default all of them. */
  readonly select?: ((mappings: readonly Mapping[]) => readonly Mapping[]) | undefined
}

/** Scales are stored in the type of the weight; 16-bit ones in float16. */
const scaleDtypeOf = ({ weight }: Linear): WeightQuantizer['scaleDtype'] =>
  weight.tensor!.dtype === 'float16' ? 'float16' : 'float32'

function weightQuantizers(block: Block, { weights, activations }: QuantScheme): Map<Linear, WeightQuantizer> {
  return new Map(
    block.linears.map((linear): [Linear, WeightQuantizer] => [
      linear,
      {
        bits: weights.bits,
        group: weights.group ?? linear.inFeatures,
        symmetric: weights.symmetric,
        // Integer linears compute in float32, whatever the model's type is.
        scaleDtype: activations && weights.group === undefined ? 'float32' : scaleDtypeOf(linear),
      },
    ]),
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
function sitesOf({ divided, multiplied, shift }: Mapping, biases: ReadonlyMap<Linear, Site>): Site[] {
  const vectors = [...divided, ...multiplied].flatMap(end => (end.kind === 'vector' ? [end.site] : []))
  const readers = shift ? multiplied.flatMap(end => (end.kind === 'rows' ? [biases.get(end.linear)] : [])) : []
  return [...vectors, ...readers.filter(site => site !== undefined)]
}

const same = (a: Site, b: Site): boolean => a.node === b.node && a.input === b.input

/** How a block will be quantized. */
export function planBlock(block: Block, options: PlanOptions): BlockPlan {
  const { scheme, values, select = mappings => mappings } = options
  const attention = scheme.activations && findActivationSites(block, values)
  const found = options.let ? findMappings(block) : { mappings: [], skipped: [] }
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
    // A shift only moves the middle of a range, which weights alone do not have: it is for quantized activations.
    const wanted = scheme.activations ? mapping : { ...mapping, shift: undefined }
    const sites = sitesOf(wanted, biases).map(site => userSite(site, values))
    if (sites.includes(undefined)) {
      skipped.push({ name: mapping.name, reason: 'a constant it changes is not stored as such in the file' })
      continue
    }
    mappings.push(wanted)
    for (const changed of sites as ChangedSite[])
      if (!changedSites.some(({ site }) => same(site, changed.site))) changedSites.push(changed)
  }
  const shifted = mappings.flatMap(({ shift, multiplied }) => (shift ? multiplied : []))
  const readers = new Set(shifted.flatMap(end => (end.kind === 'rows' ? [end.linear] : [])))
  return {
    block,
    quantizers: weightQuantizers(block, scheme),
    activations: attention && { quantizer: scheme.activations!, sites: attention.sites },
    mappings,
    skippedMappings: skipped,
    biases,
    changedSites,
    addedBiases: block.linears.filter(linear => readers.has(linear) && !biases.has(linear)),
    notes: attention?.note ? [attention.note] : [],
  }
}

/** A line when groups are wider than some weights: those have one scale per output. */
export function groupNotes(blocks: readonly Block[], { weights }: QuantScheme): string[] {
  const { group } = weights
  if (group === undefined) return []
  const narrow = new Set(
    blocks.flatMap(block => block.linears.map(({ inFeatures }) => inFeatures)).filter(K => K < group),
  )
  if (narrow.size === 0) return []
  return [
    `groups of ${group} are wider than inputs of ${[...narrow].join(', ')}: those weights have one scale per output`,
  ]
}
