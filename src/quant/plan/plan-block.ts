/** @file Plan of one block: quantizers, mappings and activation sites, from the block and the scheme. */

import { floatTypeOf } from '../../graph/float-type.ts'
import type { Value } from '../../graph/ir.ts'
import type { Refused } from '../../graph/refusal.ts'
import { hasNBitsKernel } from '../../kernels/pack/matmul-nbits.ts'
import type { WeightQuantizer } from '../../kernels/qparams.ts'
import type { Block } from '../find/blocks.ts'
import type { Linear } from '../find/linears.ts'
import { findActivationSites, kernelSites } from './activation-sites.ts'
import { withMatrices } from './affine-sites.ts'
import type { BlockPlan, ChangedSite, PlanOptions } from './block-plan.ts'
import { isFused, planFused } from './fused-experts.ts'
import { linearsOf, type Mapping, rowsOf } from './mappings/mapping.ts'
import { biasSite, findMappings } from './mappings/mappings.ts'
import { sameSite, type Site } from './site.ts'
import type { WeightSchemeOf } from './weight-rules.ts'

/** Scales are stored in the type that the product is computed in: that of the weight where it is read, perhaps behind a Cast. */
export const scaleDtypeOf = ({ origin }: Linear): WeightQuantizer['scaleDtype'] =>
  floatTypeOf(origin.inputs[1]!) === 'float16' ? 'float16' : 'float32'

function weightQuantizers(
  { linears }: Block,
  { scheme: { activations }, format }: PlanOptions,
  schemeOf: WeightSchemeOf,
): Map<Linear, WeightQuantizer> {
  return new Map(
    linears.flatMap((linear): [Linear, WeightQuantizer][] => {
      const weights = schemeOf(linear)
      if (!weights) return []
      const { bits, group, symmetric } = weights
      // Products of quantized activations are computed in float32, whatever the model's type is. MatMulNBits gets its scales through a Cast.
      const inFloat32 = activations && (group === undefined || format === 'qdq')
      const scaleDtype = inFloat32 ? 'float32' : scaleDtypeOf(linear)
      // TensorRT and WebNN take no negative scales of DequantizeLinear.
      const signs = format === 'qdq' ? { positiveScale: true } : {}
      return [[linear, { bits, group: group ?? linear.inFeatures, symmetric, scaleDtype, ...signs }]]
    }),
  )
}

/** The same constant in the user's graph; undefined when a fused node computes it from others. */
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

/** Plans a block. */
export function planBlock(block: Block, options: PlanOptions): BlockPlan {
  const { scheme, format = 'integer', values, weightSchemeOf = () => scheme.weights } = options
  const { select = mappings => mappings } = options
  const wanted = weightQuantizers(block, options, weightSchemeOf)
  const fused = planFused(block.linears, wanted)
  const quantizers = new Map([...wanted].filter(([linear]) => !fused.float.has(linear)))
  // A block that stays float altogether reads float activations, in its attention as well.
  const products = new Map([...quantizers].filter(([linear]) => !isFused(linear)))
  const attention =
    scheme.activations && quantizers.size > 0
      ? findActivationSites({ ...block, linears: [...products.keys()] }, scheme.activations, values)
      : undefined
  const inKernels = !scheme.activations && options.accuracyLevel === 4 ? kernelSites(products) : []
  const sites = attention?.sites ?? inKernels
  const affine = options.let === 'affine' ? withMatrices(sites, block.linears) : { sites, refused: [] }
  const found = options.let ? findMappings(block, options.leaving) : { mappings: [], skipped: [] }
  const biases = new Map(
    block.linears.flatMap(linear => {
      const site = biasSite(linear, block)
      return site ? [[linear, site] as const] : []
    }),
  )
  const mappings: Mapping[] = []
  const skipped: Refused[] = [...found.skipped]
  const changedSites: ChangedSite[] = []
  const asked = options.let === 'norm' ? found.mappings.filter(({ kind }) => kind === 'norm') : found.mappings
  for (const mapping of select(asked)) {
    const float = linearsOf(mapping).find(linear => !quantizers.has(linear))
    if (float) {
      skipped.push({ at: mapping.name, reason: `${float.name} stays float` })
      continue
    }
    // A shift only moves the middle of a range, which weights alone do not have: it is for quantized activations.
    // Nothing can be added behind a product inside a fused node.
    const canShift = scheme.activations && !rowsOf(mapping).some(({ linear }) => isFused(linear))
    const made = canShift ? mapping : { ...mapping, shift: undefined }
    const sites = sitesOf(made, biases).map(site => userSite(site, values))
    if (sites.includes(undefined)) {
      skipped.push({ at: mapping.name, reason: 'a constant it changes is not stored as such in the file' })
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
    format,
    quantizers,
    blockSizes: fused.blockSizes,
    unquantizable: new Set([...fused.float].filter(linear => wanted.has(linear))),
    activationSites: affine.sites,
    mappings,
    skippedMappings: skipped,
    biases,
    changedSites,
    addedBiases: block.linears.filter(linear => readers.has(linear) && !biases.has(linear)),
    notes: [
      ...(attention?.refused ? [`${attention.refused.at} are not quantized: ${attention.refused.reason}`] : []),
      ...affine.refused.map(({ at, reason }) => `no ${at}: ${reason}`),
      ...fused.notes,
      ...(scheme.activations && fused.blockSizes.size > 0
        ? ['experts inside MoE nodes read float activations: QMoE quantizes weights only']
        : []),
      ...typeNotes([...quantizers.keys()]),
      ...(format === 'qdq' ? dequantizeNotes([...quantizers]) : []),
    ],
  }
}

/** Notes about the QDQ form: how onnxruntime runs it, and what takes more room than in MatMulNBits. */
function dequantizeNotes(quantizers: readonly (readonly [Linear, WeightQuantizer])[]): string[] {
  const own = quantizers.filter(([linear]) => !isFused(linear))
  return [
    ...(own.length > 0 ? [LEVEL_4_NOTE] : []),
    ...(own.some(([, { bits }]) => bits === 2)
      ? ['codes of 2 bits are stored in 4: opset 21 has no smaller type']
      : []),
    ...(own.length < quantizers.length
      ? ['experts inside MoE nodes become QMoE, which reads no DequantizeLinear']
      : []),
  ]
}

const LEVEL_4_NOTE =
  'onnxruntime on CPUs rounds the inputs of these linears to 8 bits, unless its session option ' +
  'session.qdq_matmulnbits_accuracy_level is 0 (docs/qdq.md)'

/** Notes about types that have no CPU kernel for quantized products. */
function typeNotes(linears: readonly Linear[]): string[] {
  const types = new Set(linears.map(({ origin }) => floatTypeOf(origin.inputs[1]!)))
  return [...types]
    .filter(dtype => !hasNBitsKernel(dtype))
    .map(dtype => `quantized linears compute in float32, between casts from ${dtype} and back to it`)
}
